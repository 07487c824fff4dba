// Package server is what every Holdline process does the same way: listen,
// serve HTTP/1.1 and HTTP/2 with or without TLS, tell its health and its schemas,
// and drain.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Limits of every listener. There is no write timeout and no limit to a whole
// request: a call may be as slow as its caller allows.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	drainTimeout      = 30 * time.Second
)

// Server serves one handler on one listener.
type Server struct {
	http  *http.Server
	ln    net.Listener
	log   *slog.Logger
	drain func()
}

// Listen opens the listener, so that callers know the address before anything
// is served. drain, if given, is called when the server begins to drain: from
// then on no connection is accepted, and calls in flight may end.
func Listen(addr string, handler http.Handler, log *slog.Logger, drain func()) (*Server, error) {
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: the address is in use; is another holdline running?", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &Server{
		ln:    ln,
		log:   log,
		drain: drain,
		http: &http.Server{
			Handler:           handler,
			Protocols:         protocols,
			ReadHeaderTimeout: readHeaderTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}, nil
}

// Addr is where the server listens, as host:port.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Close closes the listener of a server that is never run.
func (s *Server) Close() { _ = s.ln.Close() }

// Run serves until ctx ends, then drains: it accepts nothing more, lets calls in
// flight end for 30 s, and then cuts them. It returns nil after a drain.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		s.log.Info("listening", "address", s.Addr())
		if err := s.http.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve on %s: %w", s.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		if s.drain != nil {
			s.drain()
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if err := s.http.Shutdown(bounded); err != nil {
			s.log.Warn("calls cut after the drain", "address", s.Addr(), "after", drainTimeout)
			_ = s.http.Close()
		}
		return nil
	})
	return group.Wait()
}
