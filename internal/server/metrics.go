package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"holdline/internal/logonce"
)

// NewMetrics returns a registry with the series of the process and of its runtime.
func NewMetrics() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// maxAdmin bounds the connections to the admin listener.
const maxAdmin = 1000

// admin serves /metrics on a listener of its own, which callers do not reach.
type admin struct {
	http *http.Server
	ln   *listener
}

func listenAdmin(addr string, metrics prometheus.Gatherer, limits Limits, log *slog.Logger) (*admin, error) {
	ln, err := listenLimited(addr, maxAdmin, logonce.New(log))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}))
	return &admin{ln: ln, http: &http.Server{
		Handler: mux, ReadHeaderTimeout: limits.HeaderTimeout, IdleTimeout: limits.IdleTimeout, MaxHeaderBytes: limits.HeaderBytes,
	}}, nil
}

// run serves until ctx ends.
func (a *admin) run(ctx context.Context) error {
	defer a.ln.lingering.Wait()
	defer context.AfterFunc(ctx, func() { _ = a.http.Close() })()
	if err := a.http.Serve(a.ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics on %s: %w", a.ln.Addr(), err)
	}
	return nil
}

// close closes the listener of one that is never run; there may be none.
func (a *admin) close() {
	if a != nil {
		_ = a.ln.Close()
	}
}
