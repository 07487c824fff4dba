package e2e

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/internal/load"
)

// eitherOf sends each request to one of two servers, and to the other one when
// the dial is refused. It repeats nothing that may have been read.
type eitherOf struct {
	transport *http.Transport
	addrs     [2]string
}

// RoundTrip implements http.RoundTripper.
func (e *eitherOf) RoundTrip(req *http.Request) (res *http.Response, err error) {
	first := rand.IntN(2)
	for _, addr := range []string{e.addrs[first], e.addrs[1-first]} {
		out := req.Clone(req.Context())
		out.URL.Host = addr
		if out.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
		if res, err = e.transport.RoundTrip(out); !errors.Is(err, syscall.ECONNREFUSED) {
			return res, err
		}
	}
	return nil, err
}

// callers are the ways to call one of two gateways.
func callers(tb testing.TB, addrs [2]string) map[string]func(ctx context.Context, req, res *dynamicpb.Message) error {
	tb.Helper()
	procedure := ledgerSpec("Post")
	over := func(wire string) func(context.Context, *dynamicpb.Message, *dynamicpb.Message) error {
		w := load.Named(wire)
		transport := w.Transport()
		tb.Cleanup(transport.CloseIdleConnections)
		rpc := w.Client(&eitherOf{transport, addrs}, "gateways")
		return func(ctx context.Context, req, res *dynamicpb.Message) error {
			return rpc.CallUnary(ctx, procedure, req, res)
		}
	}
	names := manual.NewBuilderWithScheme("gateways")
	names.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: addrs[0]}, {Addr: addrs[1]}}})
	conn, err := grpc.NewClient("gateways:///", grpc.WithResolvers(names), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return map[string]func(ctx context.Context, req, res *dynamicpb.Message) error{
		"Connect over HTTP/1.1": over("connect/proto/h1"),
		"Connect over h2c":      over("connect/proto/h2c"),
		"gRPC over h2c":         over("grpc/proto/h2c"),
		"grpc-go": func(ctx context.Context, req, res *dynamicpb.Message) error {
			// It dials again after a pause that grows, and fails calls meanwhile
			// unless it is told to wait.
			return conn.Invoke(ctx, procedure.Procedure, req, res, grpc.WaitForReady(true))
		},
	}
}

// Two gateways are restarted one after the other, twice, under load. Nobody's
// call fails, and each runs once, though its method may not run twice.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	h := deployAs(t, layout{gateways: 2})
	var l ledger
	run(t, l.serve(t, h.ledger))
	eventually(t, func() bool {
		got, _ := wire{}.ask(t, h.addr, "Read", amounts(t, -1), "Holdline-Mode: direct")
		return got.code == 0
	}, "the ledger is up")

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	var amount atomic.Int64
	answered := map[string]*atomic.Int64{}
	for name, call := range callers(t, [2]string(h.addrs)) {
		count := new(atomic.Int64)
		answered[name] = count
		for range 2 {
			load.Go(func() {
				pace := time.NewTicker(5 * time.Millisecond) // leaves room for what is restarted
				defer pace.Stop()
				for ; ctx.Err() == nil; <-pace.C {
					n := amount.Add(1)
					req := amounts(t, n)
					res := dynamicpb.NewMessage(req.Descriptor())
					if err := call(t.Context(), req, res); err != nil || amountOf(res) != n+1 {
						t.Errorf("%s: got %v, %v; want %d", name, amountOf(res), err, n+1)
						return
					}
					count.Add(1)
				}
			})
		}
	}
	more := func() {
		for name, count := range answered {
			end := count.Load() + 100
			eventually(t, func() bool { return count.Load() >= end || t.Failed() }, "100 more calls: %s", name)
		}
	}
	more()
	for range 2 {
		for i, g := range h.gateways {
			g.signal(t, syscall.SIGTERM)
			wait(t, g.gone, "the gateway has ended")
			more()
			g.restart(t)
			awaitReady(t, h.addrs[i])
			more()
		}
	}
	stop()
	load.Wait()
	if got, want := l.posted(), int(amount.Load()); got != want && !t.Failed() {
		t.Errorf("%d calls ran, want each of %d once", got, want)
	}
}

// A gateway that is told to end gives those whom it holds their handles, and ends.
func TestGatewayTerminated(t *testing.T) {
	t.Parallel()
	h := deploy(t, 1)
	held := h.hold(t)
	h.gateways[0].signal(t, syscall.SIGTERM)
	handles := held()
	wait(t, h.gateways[0].gone, "the gateway has ended")
	if _, err := net.Dial("tcp", h.addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v, want a refusal", err)
	}
	if t.Failed() {
		return
	}
	h.gateways[0].restart(t)
	awaitReady(t, h.addr)
	run(t, (&ledger{}).serve(t, h.ledger))
	h.checkAnswers(t, handles)
}
