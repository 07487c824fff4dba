package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/load"
)

// followed is a gateway and a MOM, as processes, that follow a file of routes and one of schemas.
type followed struct {
	*house
	routes, image string // files
	momLog, log   lines
	used, failed  int // how often they have read the files again
}

// follow starts a gateway and a MOM with these routes, and the schema of an image.
func follow(tb testing.TB, image string, routes ...string) *followed {
	tb.Helper()
	s := newSite(tb)
	dir := tb.TempDir()
	f := &followed{house: &house{redis: s.redis, momAddr: []string{freeport.Addr(tb)}, addr: freeport.Addr(tb)}, routes: filepath.Join(dir, "routes"), image: filepath.Join(dir, "image")}
	f.write(tb, f.routes, strings.Join(routes, "\n"))
	f.copy(tb, image)
	common := []string{"--routes", f.routes, "--schema", f.image}
	for _, p := range []*process{
		{args: slices.Concat([]string{"mom", "--redis", s.redis.URL()}, common, withAdmin(tb, f.momAddr[0])), log: &f.momLog},
		{args: slices.Concat([]string{"gateway", "--mom", "http://" + f.momAddr[0]}, common, withAdmin(tb, f.addr)), log: &f.log},
	} {
		p.name = filepath.Join(s.bin, "holdline")
		p.begin(tb)
		f.gateways = append(f.gateways, p)
	}
	f.awaitReady(tb)
	awaitReady(tb, f.addr)
	return f
}

// write replaces a file, as editors and orchestrators do.
func (f *followed) write(tb testing.TB, name, text string) {
	tb.Helper()
	if err := os.WriteFile(name+"~", []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(name+"~", name); err != nil {
		tb.Fatal(err)
	}
}

// copy replaces the image with another one.
func (f *followed) copy(tb testing.TB, image string) {
	tb.Helper()
	raw, err := os.ReadFile(image)
	if err != nil {
		tb.Fatal(err)
	}
	f.write(tb, f.image, string(raw))
}

// route writes other routes, and waits until gateway and MOM use them.
func (f *followed) route(tb testing.TB, routes ...string) {
	tb.Helper()
	f.write(tb, f.routes, strings.Join(routes, "\n"))
	f.used++
	f.awaitRead(tb)
}

// awaitRead waits until gateway and MOM have read the files again, as often as is expected.
func (f *followed) awaitRead(tb testing.TB) {
	tb.Helper()
	for _, addr := range []string{f.momAddr[0], f.addr} {
		for result, n := range map[string]int{"used": f.used, "failed": f.failed} {
			eventually(tb, func() bool {
				return strings.Contains(scrape(tb, adminOf(tb, addr)), fmt.Sprintf("\nholdline_reloads_total{result=%q} %d\n", result, n))
			}, "files read again: %d times %s", n, result)
		}
	}
}

// to is the route of the ledger to a place.
func to(addr string) string { return ledgerService + "=http://" + addr }

// At about a thousand calls a second, in three protocols, the ledger moves again and again: its new place is written into the
// file, and once that is used, the old one ends. No call fails, and each runs once.
func TestRoutesChangeUnderLoad(t *testing.T) {
	t.Parallel()
	var l ledger
	place := freeport.Addr(t)
	end := run(t, l.serve(t, place))
	f := follow(t, ledgerImage(t), to(place))

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var callers sync.WaitGroup
	var amount, answered atomic.Int64
	began := time.Now()
	for _, name := range []string{"connect/proto/h1", "connect/json/h2c", "grpc/proto/h2c"} {
		w := load.Named(name)
		transport := w.Transport()
		transport.MaxIdleConnsPerHost = 100
		t.Cleanup(transport.CloseIdleConnections)
		rpc := w.Client(transport, f.addr)
		for range 10 {
			callers.Go(func() {
				pace := time.NewTicker(30 * time.Millisecond)
				defer pace.Stop()
				for ; ctx.Err() == nil; <-pace.C {
					n := amount.Add(1)
					req := amounts(t, n)
					res := dynamicpb.NewMessage(req.Descriptor())
					if err := rpc.CallUnary(t.Context(), ledgerSpec("Post"), req, res); err != nil || amountOf(res) != n+1 {
						t.Errorf("%s: got %v, %v; want %d", name, amountOf(res), err, n+1)
						return
					}
					answered.Add(1)
				}
			})
		}
	}
	more := func() {
		enough := answered.Load() + 500
		eventually(t, func() bool { return answered.Load() >= enough || t.Failed() }, "500 more calls")
	}
	for range 5 {
		more()
		next := freeport.Addr(t)
		endNext := run(t, l.serve(t, next))
		f.route(t, to(next))
		more()
		end()
		end = endNext
	}
	more()
	stop()
	callers.Wait()
	t.Logf("%d calls, %.0f a second", answered.Load(), float64(answered.Load())/time.Since(began).Seconds())
	if got, want := l.posted(), int(amount.Load()); got != want && !t.Failed() {
		t.Errorf("%d calls ran, want each of %d once", got, want)
	}
}

// Callers are held, and calls are queued, since the place of the ledger is empty. Then the file has its new place: all of
// them are delivered there.
func TestStoredCallsFollowTheirRoute(t *testing.T) {
	t.Parallel()
	f := follow(t, ledgerImage(t), to(freeport.Addr(t)))
	queued := f.async(t, "Post", 20)
	var held sync.WaitGroup
	for i := range int64(10) {
		held.Go(func() {
			got, info := wire{http2: true}.ask(t, f.addr, "Post", amounts(t, 100+i), "Prefer: wait=60")
			if got.code != 0 || amountOf(got.message) != 101+i || info.ResponseHeader().Get(contract.HeaderTask) == "" {
				t.Errorf("held call %d: got %v, want its answer", i, got)
			}
		})
	}
	awaitTasks(t, f.momAddr[0], 30, momv1.TaskState_TASK_STATE_QUEUED)
	var l ledger
	place := freeport.Addr(t)
	run(t, l.serve(t, place))
	f.route(t, to(place))
	held.Wait()
	f.checkAnswers(t, queued)
	if got := l.posted(); got != 30 {
		t.Errorf("%d calls ran, want each of 30 once", got)
	}
	eventually(t, func() bool {
		got, info := wire{http2: true}.ask(t, f.addr, "Post", amounts(t, 7))
		return got.code == 0 && info.ResponseHeader().Get(contract.HeaderTask) == ""
	}, "calls go to the new place directly")
}

// Files that cannot be used change nothing, and say so in the log and in a series, until they are repaired.
func TestFilesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	var l ledger
	place := freeport.Addr(t)
	run(t, l.serve(t, place))
	f := follow(t, ledgerImage(t), to(place))
	check := func(failed string) {
		t.Helper()
		if got, _ := (wire{}).ask(t, f.addr, "Read", amounts(t, 1)); got.code != 0 {
			t.Errorf("a call: got %v, want its answer", got)
		}
		for _, addr := range []string{f.momAddr[0], f.addr} {
			if series := scrape(t, adminOf(t, addr)); !strings.Contains(series, "\nholdline_reload_failed "+failed+"\n") {
				t.Errorf("holdline_reload_failed is not %s", failed)
			}
		}
	}
	for text, why := range map[string]string{
		to(freeport.Addr(t)) + "\nnonsense":             "nonsense",
		"# nothing":                                     "no routes",
		to(freeport.Addr(t)) + ";schema=/there/is/none": "/there/is/none",
		"mom.v1.TaskService=http://" + freeport.Addr(t): "MOM's own",
	} {
		f.write(t, f.routes, text)
		f.failed++
		f.awaitRead(t)
		check("1")
		for _, log := range []*lines{&f.momLog, &f.log} {
			if said := log.String(); !strings.Contains(said, "the old ones stay") || !strings.Contains(said, why) {
				t.Errorf("%q: logged %s, want why", text, said)
			}
		}
	}
	f.route(t, to(place)) // as it was
	check("0")
	f.write(t, f.image, "no image")
	f.failed++
	f.awaitRead(t)
	check("1")
	f.copy(t, ledgerImage(t))
	f.used++
	f.awaitRead(t)
	check("0")
}

// A new image is used for new calls: a method that was unknown before is stored, and its answer can be read.
func TestImageChanges(t *testing.T) {
	t.Parallel()
	f := follow(t, imageAs(t, withoutRead), to(freeport.Addr(t)))
	ask := func() (said, string) {
		got, info := wire{}.ask(t, f.addr, "Read", amounts(t, 1), "Prefer: respond-async")
		return got, info.ResponseHeader().Get(contract.HeaderTask)
	}
	if got, id := ask(); got.code != connect.CodeUnavailable || id != "" {
		t.Errorf("a method without a schema: got %v, task %q; want that it is not stored", got, id)
	}
	f.copy(t, ledgerImage(t))
	f.used++
	f.awaitRead(t)
	got, id := ask()
	if got.code != connect.CodeDeadlineExceeded || id == "" {
		t.Fatalf("a method of the new image: got %v, task %q; want a handle", got, id)
	}
	place := freeport.Addr(t)
	run(t, new(ledger).serve(t, place))
	f.route(t, to(place))
	readWaited(t, f.addr, id)
	if body := readAnswer(t, f.addr, id, http.StatusOK); body != `{"amount":"2"}` {
		t.Errorf("its answer: got %s", body)
	}
}

// A service joins and leaves by the file. When it leaves, a call under way ends, new ones hear that there is no route, and
// its queued tasks wait until it is back.
func TestServicesJoinAndLeave(t *testing.T) {
	t.Parallel()
	f := follow(t, ledgerImage(t), unused)
	if got, _ := (wire{}).ask(t, f.addr, "Post", amounts(t, 1)); got.code != connect.CodeUnimplemented {
		t.Errorf("before it has a route: got %v", got)
	}
	place := freeport.Addr(t)
	begun, over := make(chan struct{}), make(chan struct{})
	l := &ledger{during: func(_ context.Context, amount int64) {
		if amount == 10 {
			close(begun)
			<-over
		}
	}}
	f.route(t, unused, to(place))
	queued := f.async(t, "Post", 3)
	end := run(t, l.serve(t, place))
	f.checkAnswers(t, queued)

	ended := make(chan said, 1)
	go func() {
		got, _ := wire{http2: true}.ask(t, f.addr, "Post", amounts(t, 10))
		ended <- got
	}()
	wait(t, begun, "a call is under way")
	f.route(t, unused)
	if got, _ := (wire{}).ask(t, f.addr, "Post", amounts(t, 1)); got.code != connect.CodeUnimplemented {
		t.Errorf("once its route is gone: got %v", got)
	}
	close(over)
	if got := <-ended; got.code != 0 || amountOf(got.message) != 11 {
		t.Errorf("the call under way: got %v, want its answer", got)
	}
	end()

	f.route(t, unused, to(place))
	queued = f.async(t, "Post", 3)
	f.route(t, unused)
	if q := queueAt(t, f.momAddr[0]); !q.GetNoRoute() || q.GetQueued() != 3 {
		t.Errorf("queue = %v, want three tasks without a route", q)
	}
	last := freeport.Addr(t)
	run(t, new(ledger).serve(t, last))
	if q := queueAt(t, f.momAddr[0]); q.GetQueued() != 3 {
		t.Errorf("queue = %v, want three tasks", q)
	}
	f.route(t, unused, to(last))
	f.checkAnswers(t, queued)
}

// SIGHUP has the files read at once, changed or not, and ends nothing that reads files. `up` follows them, too.
func TestHangupReadsFiles(t *testing.T) {
	t.Parallel()
	f := follow(t, ledgerImage(t), to(freeport.Addr(t)))
	for _, p := range f.gateways { // and the MOM
		p.signal(t, syscall.SIGHUP)
	}
	f.used++
	f.awaitRead(t)

	first := freeport.Ports(t, 12)
	addr := fmt.Sprintf("127.0.0.1:%d", first)
	place := freeport.Addr(t)
	run(t, new(ledger).serve(t, place))
	routes := filepath.Join(t.TempDir(), "routes")
	f.write(t, routes, to(freeport.Addr(t)))
	p := start(t, build(t), "up", "--ports", fmt.Sprint(first), "--state", filepath.Join(t.TempDir(), "state"), "--routes", routes, "--schema", ledgerImage(t))
	awaitReady(t, fmt.Sprintf("127.0.0.1:%d", first+10))
	f.write(t, routes, to(place))
	p.signal(t, syscall.SIGHUP)
	eventually(t, func() bool {
		got, _ := wire{}.ask(t, addr, "Post", amounts(t, 1), "Holdline-Mode: direct")
		return got.code == 0
	}, "the ledger is at its new place")
	if res, body := post(t, "http://"+addr+sumProcedure, `{"a": 1, "b": 2}`); res.StatusCode != http.StatusOK {
		t.Errorf("a shipped service: %s %s", res.Status, body)
	}
}
