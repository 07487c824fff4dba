package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/grpc"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/server"
	"holdline/internal/stack"
)

// tight is how many bytes of headers the services of these tests take.
const tight = 8 << 10

// runner serves until its context ends.
type runner interface{ Run(context.Context) error }

// tightServices serve the ledger with as little room for headers as many servers have.
func tightServices(tb testing.TB) map[string]func(addr string) (service runner, ran func() int) {
	return map[string]func(addr string) (runner, func() int){
		"grpc-go": func(addr string) (runner, func() int) {
			f := &foreign{addr: addr, options: []grpc.ServerOption{grpc.MaxHeaderListSize(tight)}}
			return f, func() int {
				f.mu.Lock()
				defer f.mu.Unlock()
				return f.runs
			}
		},
		"net/http": func(addr string) (runner, func() int) {
			l := &ledger{}
			s, err := server.Listen(server.Config{
				Addr: addr, Handler: l.handler(), Limits: server.Limits{HeaderBytes: tight}, Logger: testLog(tb),
			})
			if err != nil {
				tb.Fatal(err)
			}
			return s, l.total
		},
	}
}

// wireOf finds a way to talk.
func wireOf(name string) wire {
	all := wires()
	return all[slices.IndexFunc(all, func(w wire) bool { return w.name == name })]
}

// cookie is a header of that many bytes, name and all, as HTTP/2 counts them.
func cookie(bytes int) string {
	const name = "Ledger-Cookie"
	return name + ": " + strings.Repeat("x", bytes-len(name)-32)
}

// call makes a call, and returns what it came to.
func (w wire) call(tb testing.TB, client *connect.Client, method string, amount int64, headers ...string) (*connect.CallInfo, error) {
	tb.Helper()
	ctx, info := withHeaders(tb.Context(), headers...)
	if method != "Watch" {
		return info, client.CallUnary(ctx, ledgerSpec(method), amounts(tb, amount), amounts(tb, 0))
	}
	stream, err := client.CallServerStream(ctx, ledgerSpec(method), amounts(tb, amount))
	if err != nil {
		return info, err
	}
	defer func() { _ = stream.Close() }()
	return info, stream.Receive(amounts(tb, 0))
}

// Headers that are more than a service takes are their caller's fault: the call is not
// sent, its caller hears so, and no other call of the service does.
func TestLargeHeadersDirect(t *testing.T) {
	t.Parallel()
	for name, service := range tightServices(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := freeport.Addr(t)
			s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
			serving, ran := service(addr)
			run(t, serving)
			eventually(t, func() bool { return reachable(t, addr) }, "the service listens")
			w := wireOf("grpc/proto/h2c")
			client := w.client(t, s.Gateway)
			calls := 0
			for _, bytes := range []int{5 * tight, tight + tight/2} { // the first on a new connection
				for range 7 {
					for _, method := range []string{"Post", "Read", "Watch"} {
						if _, err := w.call(t, client, method, 1, cookie(bytes)); connect.CodeOf(err) != connect.CodeInvalidArgument ||
							contract.ReasonOf(err) != momv1.Reason_REASON_HEADERS_TOO_LARGE {
							t.Errorf("%s with %d bytes of headers: got %v, want invalid_argument, HEADERS_TOO_LARGE", method, bytes, err)
						}
					}
				}
				calls++
				info, err := w.call(t, client, "Post", 1, "Holdline-Explain: 1")
				if got := info.ResponseHeader().Get(contract.HeaderDecision); err != nil || got != "direct;try=1 → passed" {
					t.Errorf("a call after that: got %v, %q, want it to pass at once", err, got)
				}
			}
			if got := ran(); got != calls {
				t.Errorf("%d calls ran, want the %d with small headers", got, calls)
			}
			res, body := postHTTP2(t, fmt.Sprintf("http://%s/%s/Post", s.Gateway, ledgerService), `{"amount": 1}`, cookie(2*tight))
			if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge || reasonIn(t, body) != "HEADERS_TOO_LARGE" {
				t.Errorf("over Connect: got %d %s, want 431 HEADERS_TOO_LARGE", res.StatusCode, body)
			}
		})
	}
}

func reachable(tb testing.TB, addr string) bool {
	tb.Helper()
	conn, err := new(net.Dialer).DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// storedLarge stores calls with more headers than the service takes.
func storedLarge(tb testing.TB, s *stack.Stack, ttl string) (ids []string) {
	tb.Helper()
	client := wireOf("grpc/proto/h2c").client(tb, s.Gateway)
	for i, method := range []string{"Post", "Read"} {
		info, err := wire{}.call(tb, client, method, int64(1000+i), "Prefer: respond-async", "Holdline-Ttl: "+ttl, cookie(tight+tight/2))
		if connect.CodeOf(err) != connect.CodeDeadlineExceeded {
			tb.Fatalf("%s: %v, want a handle", method, err)
		}
		ids = append(ids, info.ResponseHeader().Get(contract.HeaderTask))
	}
	return ids
}

// Tasks that cannot be sent hold up nobody behind them, say why, and wait for a person
// when their time is over; they never ran.
func TestLargeHeadersStored(t *testing.T) {
	t.Parallel()
	for name, service := range tightServices(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := freeport.Addr(t)
			s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}, Metrics: "127.0.0.1:0"})
			const others = 100
			poison := storedLarge(t, s, "1h")
			ids := storeMany(t, s, "Post", 1, others)
			serving, ran := service(addr)
			stop := run(t, serving)
			poison = append(poison, storedLarge(t, s, "20s")...) // long enough for a try behind the others, on a busy machine
			for _, task := range awaitEnds(t, s, ids) {
				if task.GetState() != momv1.TaskState_TASK_STATE_SUCCEEDED {
					t.Errorf("%s behind them is %v, want it to succeed", task.GetId(), task.GetState())
				}
			}
			const words = "cannot be sent: its headers are more than the service takes"
			for i, id := range poison {
				state := momv1.TaskState_TASK_STATE_RETRYING
				if i >= 2 {
					state = momv1.TaskState_TASK_STATE_DEAD
				}
				if task := awaitState(t, s.Gateway, id, state); task.GetLastFailure() != words || task.GetAttempts() != 0 {
					t.Errorf("got %v, want no attempt and %q", task, words)
				}
			}
			if got := ran(); got != others {
				t.Errorf("%d calls ran, want %d", got, others)
			}
			if all := scrape(t, s.Metrics); !strings.Contains(all, `holdline_mom_passed_over_total{cause="headers-too-large",service="`+ledgerService+`"}`) ||
				!strings.Contains(all, `holdline_gateway_breaker_open{service="`+ledgerService+`"} 0`) {
				t.Error("the metrics do not count them, or the breaker is open")
			}
			checkError(t, s, poison[2], http.StatusConflict, momv1.Reason_REASON_ATTEMPTS_SPENT)

			// A service that takes more is found at the next try; a person asks for one.
			stop()
			l := &ledger{}
			run(t, l.serve(t, addr))
			for i, id := range poison[2:] {
				if _, err := taskService(t, s.Gateway).RetryTask(t.Context(), &momv1.RetryTaskRequest{Id: id}); err != nil {
					t.Errorf("RetryTask: %v", err)
				}
				awaitState(t, s.Gateway, id, momv1.TaskState_TASK_STATE_SUCCEEDED)
				if got := l.ran(int64(1000 + i)); got == 0 {
					t.Errorf("%s did not run", id)
				}
			}
		})
	}
}

// Whatever passed direct can be replayed: to the byte, on every wire.
func TestLargestHeadersReplayed(t *testing.T) {
	t.Parallel()
	services := tightServices(t)
	services["HTTP/1.1"] = tightHTTP1(t)
	speaks := map[string]func(wire) bool{
		"grpc-go":  func(w wire) bool { return w.name == "grpc/proto/h2c" },
		"net/http": func(w wire) bool { return w.http2 },
		"HTTP/1.1": func(w wire) bool { return !w.http2 },
	}
	for name, service := range services {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := freeport.Addr(t)
			s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
			serving, _ := service(addr)
			run(t, serving)
			eventually(t, func() bool { return reachable(t, addr) }, "the service listens")
			for _, w := range wires() {
				if !speaks[name](w) {
					continue
				}
				client := w.client(t, s.Gateway)
				const least = 100
				most := least - 1 + sort.Search(4*tight, func(more int) bool {
					_, err := w.call(t, client, "Read", 1, cookie(least+more))
					return err != nil
				})
				if most < tight/2 || most > 2*tight {
					t.Errorf("%s: %d bytes of headers pass direct, want about %d", w.name, most, tight)
					continue
				}
				for _, asked := range []string{"Prefer: respond-async, wait=60", "Idempotency-Key: " + w.name} {
					for _, method := range []string{"Read", "Post"} {
						if _, err := w.call(t, client, method, 1, cookie(most), asked); err != nil {
							t.Errorf("%s: %s with %d bytes of headers and %s: %v, want it to pass as it did direct", w.name, method, most, asked, err)
						}
					}
				}
			}
		})
	}
}

// tightHTTP1 serves the ledger over HTTP/1.1, each call on a connection of its own: on
// one that is kept, net/http takes up to 4 KiB more.
func tightHTTP1(tb testing.TB) func(addr string) (runner, func() int) {
	return func(addr string) (runner, func() int) {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			tb.Fatal(err)
		}
		l := &ledger{}
		s := &http.Server{Handler: l.handler(), MaxHeaderBytes: tight / 2}
		s.SetKeepAlivesEnabled(false)
		return serving{s, ln}, l.total
	}
}

// serving is a runner.
type serving struct {
	*http.Server
	ln net.Listener
}

// Run serves until ctx ends.
func (s serving) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// A MOM takes whatever its gateway takes: a call is stored with the largest headers that
// pass direct.
func TestLargestHeadersStored(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	for _, name := range []string{"grpc/proto/h2c", "connect/json/h1"} {
		w := wireOf(name)
		client := w.client(t, s.Gateway)
		most := sort.Search(1<<20, func(bytes int) bool {
			_, err := w.call(t, client, "Post", 1, cookie(100+bytes), "Holdline-Mode: direct")
			return contract.ReasonOf(err) != momv1.Reason_REASON_SERVICE_UNAVAILABLE // the gateway does not take it
		}) - 1 + 100
		for _, asked := range []string{"Prefer: respond-async", "Prefer: wait=0", "Idempotency-Key: " + name} {
			if info, err := w.call(t, client, "Post", 1, cookie(most-200), asked, "Prefer: wait=0"); contract.ReasonOf(err) != momv1.Reason_REASON_CALL_STORED {
				t.Errorf("%s: %d bytes of headers and %s: got %v, %v, want it stored", name, most-200, asked, err, info)
			}
		}
	}
}

// A handler that says 431 of a call with small headers has had it: the call is not sent again.
func TestHandlerSaysHeadersTooLarge(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	var ran atomic.Int64
	service, err := server.Listen(server.Config{Addr: addr, Logger: testLog(t), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/"+ledgerService+"/Post" {
			_, _ = io.Copy(io.Discard, r.Body)
			ran.Add(1)
		}
		w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
	})})
	if err != nil {
		t.Fatal(err)
	}
	run(t, service)
	for i, name := range []string{"connect/proto/h1", "connect/json/h2c"} {
		client := wireOf(name).client(t, s.Gateway)
		info, err := wire{}.call(t, client, "Post", int64(i), "Idempotency-Key: "+name)
		if code := connect.CodeOf(err); code != connect.CodeUnknown {
			t.Errorf("%s: got %v, want what the service said", name, err)
		}
		awaitState(t, s.Gateway, info.ResponseHeader().Get(contract.HeaderTask), momv1.TaskState_TASK_STATE_FAILED)
	}
	if got := ran.Load(); got != 2 {
		t.Errorf("%d runs, want one of each call", got)
	}
}
