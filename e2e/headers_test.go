package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/grpc"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
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
			addr := address(t)
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
