package mom_test

import (
	"cmp"
	"context"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpchealth"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/redistest"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/internal/server/servertest"
	"holdline/mom"
	"holdline/mom/redisstore"
	"holdline/services/sum"
)

const sumService = arithmeticv1connect.SumServiceName

// told is a MOM whose log is read. Its service is down until begin is called.
type told struct {
	t       *testing.T
	log     *lines
	base    string // of the MOM
	service string // address
	rpc     *connect.Client
	mom     *mom.MOM
	store   *redisstore.Store
}

func newTold(t *testing.T) *told {
	t.Helper()
	return newToldOf(t, "")
}

// newToldOf is newTold with a service that is at a URL.
func newToldOf(t *testing.T, url string) *told {
	t.Helper()
	return newToldWith(t, url, func(*mom.Config) {})
}

// newToldWith is newToldOf with a Config of the test's.
func newToldWith(t *testing.T, url string, configure func(*mom.Config)) *told {
	t.Helper()
	w := &told{t: t, log: &lines{}, service: freeport.Addr(t)}
	log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	store, err := redisstore.Open(redisstore.Config{URL: redistest.Start(t), Prefix: t.Name() + w.service + ":", CommandTimeout: 20 * time.Second, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	w.store = store
	routes, err := route.ParseTable([]string{sumService + "=" + cmp.Or(url, "http://"+w.service)})
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	cfg := mom.Config{Routes: routes, Schemas: schemas, Logger: log}
	configure(&cfg)
	m, err := mom.New(cfg, store)
	if err != nil {
		t.Fatal(err)
	}
	w.mom = m
	servertest.Keep(t, m)
	addr, _ := servertest.Run(t, server.Config{Handler: m})
	w.base = "http://" + addr
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	w.rpc = connect.NewClient(connecthttp.NewTransport(&http.Client{Transport: transport}, w.base))
	w.await("store ready")
	return w
}

// begin starts the service.
func (w *told) begin() {
	w.t.Helper()
	rpc := connect.NewServer()
	sum.Register(rpc)
	listener, err := net.Listen("tcp", w.service)
	if err != nil {
		w.t.Fatal(err)
	}
	service := &http.Server{Handler: server.Mux(rpc, grpchealth.NewStaticChecker(sumService)), Protocols: new(http.Protocols)}
	service.Protocols.SetHTTP1(true)
	service.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = service.Serve(listener) }()
	w.t.Cleanup(func() { _ = service.Close() })
}

// handOff stores a call as a gateway does, and returns its task's id.
func (w *told) handOff(headers ...string) string {
	w.t.Helper()
	return w.call(`{"a":1,"b":2}`, headers...)
}

func (w *told) call(body string, headers ...string) (task string) {
	w.t.Helper()
	for id := newID().String(); ; { // again, under its id, while it may be stored or not
		req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.base+arithmeticv1connect.SumServiceSumProcedure, strings.NewReader(body))
		if err != nil {
			w.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set(contract.HeaderPrefer, "respond-async")
		req.Header.Set(contract.HeaderTask, id)
		for _, h := range headers {
			key, value, _ := strings.Cut(h, ": ")
			req.Header.Set(key, value)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			w.t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if err != nil {
			w.t.Fatal(err)
		}
		if res.Header.Get(contract.HeaderUnsure) == "" {
			return res.Header.Get(contract.HeaderTask)
		}
	}
}

// find returns the lines that have all of some parts.
func (l *lines) find(parts ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for line := range strings.Lines(l.text.String()) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue next
			}
		}
		found = append(found, line)
	}
	return found
}

// await waits for a line.
func (w *told) await(parts ...string) {
	w.t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for len(w.log.find(parts...)) == 0 {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("no line with %q:\n%s", parts, strings.Join(w.log.find(), ""))
		}
	}
}

// once waits for a line and checks that there is no second one.
func (w *told) once(parts ...string) {
	w.t.Helper()
	w.await(parts...)
	if found := w.log.find(parts...); len(found) != 1 {
		w.t.Errorf("%d lines with %q, want 1:\n%s", len(found), parts, strings.Join(w.log.find(), ""))
	}
}

// never checks that a line is not there.
func (w *told) never(parts ...string) {
	w.t.Helper()
	if found := w.log.find(parts...); len(found) > 0 {
		w.t.Errorf("got %s", strings.Join(found, ""))
	}
}

// An outage is told from its first stored call to the last one that is replayed.
func TestOutageIsLogged(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	for range 7 {
		w.handOff("Holdline-Cause: tls")
	}
	w.once("level=WARN", "a service fails: its calls are stored", "service="+sumService, "cause=tls")
	w.begin()
	w.once("level=INFO", "the service is back", "service="+sumService, "after=", "stored=7", "replayed=7")
}

// So is one in which calls wait that asked to be stored.
func TestOutageOfKeysIsLogged(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	w.handOff()
	w.once("level=WARN", "a service fails", "service="+sumService, "cause=dial-refused")
	w.begin()
	w.once("level=INFO", "the service is back", "replayed=1")
}

// asOperator is a context for what a gateway sends on from its admin listener.
func asOperator(ctx context.Context) context.Context {
	ctx, info := connect.NewClientContext(ctx)
	info.RequestHeader().Set(contract.HeaderOperator, "192.0.2.7")
	return ctx
}

// A service that is up is not said to be down, nor a paused queue to be replayed.
// What operators do has their address.
func TestPausedQueueIsLogged(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	w.begin()
	queues := momv1connect.NewQueueServiceClient(w.rpc)
	asOperator := func() context.Context { return asOperator(t.Context()) }
	if _, err := queues.PauseQueue(asOperator(), &momv1.PauseQueueRequest{Service: sumService}); err != nil {
		t.Fatal(err)
	}
	w.once("level=INFO", "queue paused", "service="+sumService, "peer=127.0.0.1:", "operator=192.0.2.7")
	w.handOff()
	tasks := momv1connect.NewTaskServiceClient(w.rpc)
	id := w.handOff()
	if _, err := tasks.CancelTask(t.Context(), &momv1.CancelTaskRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	w.once("level=INFO", "task cancelled", "task="+id, "peer=127.0.0.1:")
	if _, err := queues.LimitQueue(asOperator(), &momv1.LimitQueueRequest{Service: sumService, MaxRunning: 2}); err != nil {
		t.Fatal(err)
	}
	w.once("level=INFO", "queue limited", "max_running=2", "peer=127.0.0.1:")
	w.never("replaying")
	if _, err := queues.ResumeQueue(asOperator(), &momv1.ResumeQueueRequest{Service: sumService}); err != nil {
		t.Fatal(err)
	}
	w.once("level=INFO", "queue resumed", "service="+sumService)
	if _, err := queues.RetryDead(asOperator(), &momv1.RetryDeadRequest{Service: sumService}); err != nil {
		t.Fatal(err)
	}
	w.once("level=INFO", "dead tasks to be retried", "tasks=0")
	w.never("down")
}

// Refusals are logged, the same one once.
func TestRefusalsAreLogged(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	for range 3 {
		w.handOff("Holdline-Ttl: soon")
	}
	w.once("level=INFO", "call not served", "HEADER_INVALID", "service="+sumService)
	for range 3 { // a busy store may not take the first of them in time
		w.handOff("Idempotency-Key: k")
		w.call(`{"a":2}`, "Idempotency-Key: k")
	}
	w.once("level=INFO", "call not served", "IDEMPOTENCY_KEY_REUSED", "service="+sumService)
}

// A certificate that nobody trusts is named where tasks wait for its service.
func TestBadCertificateIsLogged(t *testing.T) {
	t.Parallel()
	service := httptest.NewUnstartedServer(http.NotFoundHandler())
	service.Config.ErrorLog = stdlog.New(io.Discard, "", 0) // it would tell of each handshake
	service.StartTLS()
	t.Cleanup(service.Close)
	w := newToldOf(t, service.URL)
	w.handOff()
	w.await("level=WARN", "a service fails: its calls are stored")
	if len(w.log.find("cause=timeout")) > 0 {
		t.Skip("the machine is too busy to end a handshake within a second")
	}
	w.once("level=WARN", "a service fails: its calls are stored", "cause=tls")
}
