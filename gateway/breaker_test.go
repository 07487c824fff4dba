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
	b := newBreaker(pool, func(string) {}, logonce.New(log))

	fails := func(n int) {
		for range n {
			b.failed("reset")
		}
	}
	answers := func(n int) {
		for range n {
			b.answered()
		}
	}
	closes := func() {
		t.Helper()
		tick, patience := time.NewTicker(10*time.Millisecond), time.After(20*time.Second)
		defer tick.Stop()
		for b.open() || b.probing.Load() {
			select {
			case <-tick.C:
			case <-patience:
				t.Fatal("not closed 20 s after the service was healthy")
			}
		}
	}

	for range 3 {
		fails(breakerStreak - 1)
		answers(1)
	}
	if b.open() {
		t.Fatal("open without five failures in a row")
	}
	fails(breakerStreak)
	if !b.open() || *b.failedBy.Load() != "reset" {
		t.Fatalf("open: %t, because of %q, after five failures in a row", b.open(), *b.failedBy.Load())
	}
	checker.SetStatus(service, grpchealth.StatusServing)
	closes()
	if b.closedAt.Load().IsZero() {
		t.Error("the time at which it closed is not known")
	}

	// Whatever comes last of twenty, of which half have failed, opens it, and then it closes again.
	for _, pair := range [][2]func(int){{fails, answers}, {answers, fails}} {
		checker.SetStatus(service, grpchealth.StatusNotServing)
		for range breakerCalls / 2 {
			pair[0](1)
			pair[1](1)
		}
		if !b.open() {
			t.Error("closed though half of the calls failed")
		}
		checker.SetStatus(service, grpchealth.StatusServing)
		closes()
	}

	for range 2 {
		fails(breakerStreak - 1)
		answers(1)
	}
	fails(breakerStreak)
	closes()
	if answers(breakerCalls); b.open() {
		t.Error("opened again by failures of the outage")
	}
}
