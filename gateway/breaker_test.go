package gateway

import (
	"log/slog"
	"net/http"
	"net/url"
	"testing"
	"time"

	"connectrpc.com/grpchealth"

	"holdline/internal/logonce"
	"holdline/internal/server"
	"holdline/internal/server/servertest"
	"holdline/internal/upstream"
)

// The breaker opens on five failures in a row, or on half of twenty, and closes
// when the service is healthy.
func TestBreaker(t *testing.T) {
	t.Parallel()
	const service = "test.v1.FaultService"
	checker, mux := grpchealth.NewStaticChecker(service), http.NewServeMux()
	checker.SetStatus(service, grpchealth.StatusNotServing)
	mux.Handle(grpchealth.NewHandler(checker))
	addr, _ := servertest.Run(t, server.Config{Handler: mux})
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	pool := upstream.NewPool(upstream.Config{Service: service, Endpoints: []*url.URL{{Scheme: "http", Host: addr}}, Log: log})
	t.Cleanup(pool.Close)
	b := newBreaker(pool, logonce.New(log))

	for range breakerStreak - 1 {
		b.failed("reset")
	}
	b.answered()
	for range breakerStreak - 1 {
		b.failed("reset")
	}
	if b.open() {
		t.Fatal("open without five failures in a row")
	}
	b.failed("reset")
	if !b.open() || *b.openedBy.Load() != "reset" {
		t.Fatalf("open: %t, because of %q, after five failures in a row", b.open(), *b.openedBy.Load())
	}
	checker.SetStatus(service, grpchealth.StatusServing)
	tick, patience := time.NewTicker(10*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for b.open() || b.closedAt.Load().IsZero() {
		select {
		case <-tick.C:
		case <-patience:
			t.Fatal("not closed 20 s after the service was healthy")
		}
	}

	for i := range 2 * breakerCalls {
		if i%2 == 0 {
			b.answered()
		} else {
			b.failed("reset")
		}
	}
	if !b.open() {
		t.Error("closed though half of the calls failed")
	}
}
