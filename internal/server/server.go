// Package server does what every Holdline process does in the same way: listen, serve HTTP/1.1 and HTTP/2
// with or without TLS, answer health checks and server reflection, and drain.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"holdline/internal/logonce"
	"holdline/internal/wire"
)

// maxFrame is the largest HTTP/2 frame that we read, in bytes. A connection keeps a buffer for the largest
// frame that came. Clients of net/http, such as gateways, use a buffer of up to maxFrame for each stream that
// they send. net/http's default is 1 MiB, which is hardly faster.
const maxFrame = 64 << 10

// pingTimeout is how long a caller has to answer a ping.
const pingTimeout = 15 * time.Second

// drainTimeout is how long calls in flight may go on when the server ends.
const drainTimeout = 30 * time.Second

// lastWords is how long these calls may take after that to end with an answer, before they are cut.
const lastWords = time.Second

// Defaults of Limits.
const (
	DefaultConnections   = 10_000
	DefaultStreams       = 250
	DefaultHeaderBytes   = 64 << 10
	DefaultHeaderTimeout = 10 * time.Second
	DefaultIdleTimeout   = 2 * time.Minute
)

// Limits bound what callers can take from the server. A zero field means its default. There is no write
// timeout and no time limit for a whole request: a call may take as long as its caller allows.
type Limits struct {
	Connections   int           // at once; beyond them, health is served and other calls are unavailable
	Streams       int           // of HTTP/2, per connection
	HeaderBytes   int           // of one request; more get status 431
	HeaderTimeout time.Duration // for one request's headers
	// IdleTimeout is after how long a connection without calls is closed. An HTTP/2 connection with calls
	// gets a ping instead, if its caller has sent nothing for that long.
	IdleTimeout time.Duration
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Connections:   cmp.Or(l.Connections, DefaultConnections),
		Streams:       cmp.Or(l.Streams, DefaultStreams),
		HeaderBytes:   cmp.Or(l.HeaderBytes, DefaultHeaderBytes),
		HeaderTimeout: cmp.Or(l.HeaderTimeout, DefaultHeaderTimeout),
		IdleTimeout:   cmp.Or(l.IdleTimeout, DefaultIdleTimeout),
	}
}

// Config configures a server. Addr, Handler and Logger are required.
type Config struct {
	Addr    string // host:port; port 0 is any free one
	Handler http.Handler
	Logger  *slog.Logger
	// Drain is called when the server begins to drain: from then on no
	// connection is accepted, and calls in flight may end. Default: nothing.
	Drain func()
	// End is called when the time for calls in flight is over: the handlers should now answer all calls that they can answer at once. Default: nothing.
	End func()
	// CertFile and KeyFile make the server speak TLS, with HTTP/2 and HTTP/1.1
	// by ALPN: a certificate with its chain, and its key, as PEM. Both are read
	// again when they change. Default: no TLS, HTTP/1.1 and h2c.
	CertFile, KeyFile string
	// Metrics are served at /metrics on MetricsAddr, host:port, until the server
	// has drained. Default: nowhere.
	MetricsAddr string
	Metrics     prometheus.Gatherer
	// Operators is served on AdminAddr, host:port or unix:PATH, beside the metrics and
	// /debug/pprof/, until the server has drained: see adminHandler. Default: nowhere.
	AdminAddr string
	Operators http.Handler
	// Engine speaks HTTP/2 with callers.
	Engine wire.Engine
	Limits Limits
}

// Server serves one handler on one listener.
type Server struct {
	http        *http.Server
	own         *own // nil: net/http serves all
	ln          *listener
	maxStreams  int
	secure      bool
	once        *logonce.Logger
	metrics     *aside // nil if MetricsAddr is empty, or the same as AdminAddr
	admin       *aside // nil if there is no admin listener
	handler     http.Handler
	log         *slog.Logger
	drain, end  func()
	leaving     atomic.Bool
	connections atomic.Int64 // of net/http, if it serves all
}

// Listen opens the listeners of a server, so that its addresses are known before Run serves anything.
func Listen(cfg Config) (*Server, error) {
	var secure *tls.Config
	if cfg.CertFile != "" || cfg.KeyFile != "" {
		pair, err := loadKeyPair(cfg.CertFile, cfg.KeyFile, cfg.Logger)
		if err != nil {
			return nil, &ConfigError{err}
		}
		secure = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get}
	}
	limits, once := cfg.Limits.withDefaults(), logonce.New(cfg.Logger)
	s := &Server{
		maxStreams: limits.Streams,
		once:       once,
		handler:    cfg.Handler,
		log:        cfg.Logger,
		drain:      cfg.Drain,
		end:        cfg.End,
	}
	if err := s.listen(cfg, limits); err != nil {
		s.Close()
		return nil, err
	}
	s.http = &http.Server{
		Handler:           s,
		ConnContext:       withConn,
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: limits.HeaderTimeout,
		IdleTimeout:       limits.IdleTimeout,
		MaxHeaderBytes:    limits.HeaderBytes,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	s.secure = secure != nil
	s.http.Protocols.SetHTTP1(true)
	if cfg.Engine.IsNetHTTP() {
		s.leaveToNetHTTP(secure, limits)
	} else {
		s.own = newOwn(s, secure, limits)
		s.http.ConnState = s.own.between
	}
	return s, nil
}

// leaveToNetHTTP has net/http serve all connections.
func (s *Server) leaveToNetHTTP(secure *tls.Config, limits Limits) {
	s.http.TLSConfig, s.http.ConnState = secure, s.count
	if secure != nil {
		s.http.Protocols.SetHTTP2(true)
	} else {
		s.http.Protocols.SetUnencryptedHTTP2(true)
	}
	s.http.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams: limits.Streams,
		MaxReadFrameSize:     maxFrame,
		SendPingTimeout:      limits.IdleTimeout,
		PingTimeout:          min(pingTimeout, limits.IdleTimeout),
	}
}

// listen opens the listeners.
func (s *Server) listen(cfg Config, limits Limits) (err error) {
	if cfg.MetricsAddr != "" && (cfg.MetricsAddr != cfg.AdminAddr || strings.HasSuffix(cfg.AdminAddr, ":0")) { // two :0 are two ports
		if s.metrics, err = listenAside("metrics", cfg.MetricsAddr, metricsHandler(cfg), limits, cfg.Logger); err != nil {
			return err
		}
	}
	if cfg.AdminAddr != "" {
		if s.admin, err = listenAside("admin", cfg.AdminAddr, adminHandler(cfg), limits, cfg.Logger); err != nil {
			return err
		}
		if at := s.admin.addr(); !strings.HasPrefix(at, unixPrefix) && !Loopback(at) {
			s.log.Warn("whoever reaches the admin listener is an operator: let nobody else reach it", "address", at)
		}
	}
	most, raise := fitting(limits.Connections, s.once)
	s.ln, err = listenLimited("listen", cfg.Addr, most, raise, s.once)
	return err
}

// ConfigError is the error of a server, or of what it serves, whose configuration cannot be used. Trying again does
// not help.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap is for errors.Is and errors.As.
func (e *ConfigError) Unwrap() error { return e.Err }

// TakenError says that another program listens at an address.
type TakenError struct {
	Addr string
	Flag string // that gives the server another address
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("listen on %s: the address is in use, by another holdline or another program; choose another one with --%s", e.Addr, e.Flag)
}

// listen opens the listener of a flag.
func listen(flag, addr string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(addr, unixPrefix); ok {
		return listenUnix(flag, path)
	}
	if _, port, err := net.SplitHostPort(addr); err != nil {
		return nil, &ConfigError{fmt.Errorf("listen on %s: %w", addr, err)}
	} else if _, err := net.LookupPort("tcp", port); err != nil {
		return nil, &ConfigError{fmt.Errorf("listen on %s: %w", addr, err)}
	}
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &TakenError{addr, flag}
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return ln, nil
}

// Addr is where the server listens, as host:port.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Loopback tells whether other machines cannot reach an address, host:port.
func Loopback(addr string) bool {
	ip, err := netip.ParseAddrPort(addr)
	return err == nil && ip.Addr().Unmap().IsLoopback()
}

// MetricsAddr is the address of the listener that serves metrics only; empty if there is none.
func (s *Server) MetricsAddr() string { return s.metrics.addr() }

// AdminAddr is where operators are served, host:port or unix:PATH; empty when they are not.
func (s *Server) AdminAddr() string { return s.admin.addr() }

// Close closes the listeners of a server that is never run.
func (s *Server) Close() {
	if s.ln != nil {
		_ = s.ln.Close()
	}
	s.metrics.close()
	s.admin.close()
}

// Run serves until ctx ends, then drains: it accepts no more connections, asks callers to close theirs, waits
// up to 30 s for the calls in flight, ends the calls that are left, and after another second cuts the connections that are still open. It returns nil after a drain.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	drained, done := context.WithCancel(context.WithoutCancel(ctx))
	for _, aside := range []*aside{s.metrics, s.admin} {
		if aside != nil {
			group.Go(func() error { return aside.run(drained) })
		}
	}
	group.Go(func() error {
		s.log.Info("listening", "address", s.Addr(), "tls", s.secure)
		if err := s.serve(); !s.leaving.Load() {
			return fmt.Errorf("serve on %s: %w", s.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		defer done()
		<-ctx.Done()
		if s.drain != nil {
			s.drain()
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout+lastWords)
		defer cancel()
		defer time.AfterFunc(drainTimeout, s.endCalls).Stop()
		s.leave(bounded)
		if s.shutdown(bounded) != nil {
			s.log.Warn("calls cut after the drain", "address", s.Addr(), "after", drainTimeout+lastWords)
			s.cut()
		}
		s.ln.wait()
		return nil
	})
	return group.Wait()
}

// endCalls has the handlers of calls in flight end them.
func (s *Server) endCalls() {
	if s.end != nil {
		s.end()
	}
	if s.own != nil {
		s.own.h1.End()
		s.own.h2.End()
	}
}

func (s *Server) serve() error {
	switch {
	case s.own != nil:
		return s.own.serve()
	case s.secure:
		return s.http.ServeTLS(s.ln, "", "")
	}
	return s.http.Serve(s.ln)
}

// shutdown waits until the calls under way have ended, or ctx ends.
func (s *Server) shutdown(ctx context.Context) error {
	if s.own != nil {
		s.own.shutdown(ctx)
	}
	err := s.http.Shutdown(ctx)
	if s.own != nil {
		_ = s.own.others.Close() // net/http does not, if it has not begun to accept
	}
	await(ctx, s.empty)
	return cmp.Or(err, ctx.Err())
}

// cut ends all connections that are left.
func (s *Server) cut() {
	_ = s.http.Close()
	if s.own != nil {
		s.own.h1.Cut()
	}
}
