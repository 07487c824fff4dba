// Package e2e runs the whole system and talks to it as its users do.
package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"go.uber.org/goleak"

	"holdline/internal/freeport"
	"holdline/internal/load"
	"holdline/internal/redistest"
	"holdline/internal/server/servertest"
	"holdline/internal/stack"
)

func TestMain(m *testing.M) {
	if place := os.Getenv(ledgerEnv); place != "" {
		fmt.Fprintln(os.Stderr, serveLedger(place))
		os.Exit(1)
	}
	var err error
	if binFolder, err = os.MkdirTemp("", "holdline-e2e"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	redistest.Main(m, func(code int) int {
		_ = os.RemoveAll(binFolder)
		if err := goleak.Find(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	})
}

// deployed is a gateway of a system that runs already, as host:port. The tests
// that need nothing else of a system talk to it, and the others are skipped.
var deployed = os.Getenv("HOLDLINE_E2E_SERVER")

// ownSystem skips a test that needs a system which it can change.
func ownSystem(tb testing.TB) {
	tb.Helper()
	if deployed != "" {
		tb.Skip("needs a system of its own, not the one at HOLDLINE_E2E_SERVER")
	}
}

// journey returns a system with all its services up, for a test that knows of its
// gateway alone: the deployed one, if there is one.
func journey(tb testing.TB) *stack.Stack {
	tb.Helper()
	if deployed != "" {
		return &stack.Stack{Gateway: deployed}
	}
	return up(tb, stack.Config{})
}

// up runs a stack on free ports until the test ends, and returns it once its MOM
// takes tasks.
func up(tb testing.TB, cfg stack.Config) *stack.Stack {
	tb.Helper()
	s, _ := upUntil(tb, cfg)
	return s
}

// upUntil is up, and returns how to end the stack before the test does.
func upUntil(tb testing.TB, cfg stack.Config) (s *stack.Stack, stop func()) {
	tb.Helper()
	ownSystem(tb)
	cfg.Listen = "127.0.0.1:0"
	cfg.Port = func(name, _ string) string {
		if slices.Contains(cfg.Without, name) {
			return freeport.Port(tb)
		}
		return "0"
	}
	if cfg.Redis == "" {
		cfg.Redis, cfg.RedisPrefix = redistest.Start(tb), tb.Name()+":"
	}
	cfg.Logger, cfg.Admin = testLog(tb), "127.0.0.1:0"
	s, err := stack.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	admins.Store(s.Gateway, s.Admin)
	admins.Store(s.MOM, s.Admin)
	stop = run(tb, s)
	awaitReady(tb, s.MOM)
	return s, stop
}

func testLog(tb testing.TB) *slog.Logger {
	tb.Helper()
	return slog.New(slog.NewTextHandler(tb.Output(), nil))
}

// run runs something until the test ends, and waits for its end.
func run(tb testing.TB, what interface{ Run(context.Context) error }) (stop func()) {
	tb.Helper()
	return servertest.Keep(tb, what)
}

// wire is a load.Wire, for tests.
type wire struct {
	name    string
	http2   bool
	options []connecthttp.Option
}

func wires() (list []wire) {
	for _, w := range load.Wires() {
		list = append(list, wire{w.Name, w.HTTP2, w.Options})
	}
	return list
}

// client returns a client for the server at addr, and closes its connections
// when the test ends.
func (w wire) client(tb testing.TB, addr string) *connect.Client {
	tb.Helper()
	return w.over(w.transport(tb), addr)
}

func (w wire) over(transport http.RoundTripper, addr string) *connect.Client {
	return load.Wire{Options: w.options}.Client(transport, addr)
}

func (w wire) transport(tb testing.TB) *http.Transport {
	tb.Helper()
	transport := load.Wire{HTTP2: w.http2}.Transport()
	transport.MaxIdleConnsPerHost = 1000
	tb.Cleanup(transport.CloseIdleConnections)
	return transport
}
