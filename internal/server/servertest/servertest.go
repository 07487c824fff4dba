// Package servertest runs servers, and other parts that have a Run method, for tests.
package servertest

import (
	"context"
	"log/slog"
	"testing"

	"holdline/internal/server"
)

// Run runs a server until the test ends or stop is called, and returns its address. Addr and Logger of cfg
// may be left out.
func Run(tb testing.TB, cfg server.Config) (addr string, stop func()) {
	tb.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(tb.Output(), nil))
	}
	s, err := server.Listen(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return s.Addr(), Keep(tb, s)
}

// Keep runs a part until the test ends or stop is called. An error that its Run returns fails the test.
func Keep(tb testing.TB, part interface{ Run(context.Context) error }) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := part.Run(ctx); err != nil {
			tb.Errorf("run: %v", err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	tb.Cleanup(stop)
	return stop
}
