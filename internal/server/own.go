package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"holdline/internal/wire"
	"holdline/internal/wire/h1"
	"holdline/internal/wire/h2"
)

// own is our own engine. It accepts connections, and serves HTTP/2 and the plain requests of HTTP/1.1. net/http serves everything else: it gets
// a connection over HTTP/1.1 when the first request comes that is not plain.
type own struct {
	*Server
	h1     h1.Server
	h2     h2.Server
	tls    *tls.Config // nil without TLS
	others *handed
	ours   atomic.Int64 // the number of connections that we serve ourselves
}

func newOwn(s *Server, secure *tls.Config, limits Limits) *own {
	var offer func(*wire.Request) (*wire.Response, http.Handler)
	if plain, ok := s.handler.(wire.PlainHandler); ok {
		offer = func(req *wire.Request) (*wire.Response, http.Handler) {
			if s.ln.crowded.Load() || s.leaving.Load() {
				return nil, nil
			}
			return plain.ServePlain(req)
		}
	}
	if secure != nil {
		secure.NextProtos = []string{http2.NextProtoTLS, "http/1.1"}
	}
	return &own{
		Server: s,
		h1: h1.Server{
			Plain: offer, Handler: s, Context: s.contextOf, Log: s.log, Last: s.leaving.Load,
			HeaderTimeout: limits.HeaderTimeout, IdleTimeout: limits.IdleTimeout,
		},
		h2: h2.Server{
			Plain: offer, MaxStreams: limits.Streams, MaxHeaderBytes: limits.HeaderBytes, HeaderTimeout: limits.HeaderTimeout,
			IdleTimeout: limits.IdleTimeout, PingTimeout: min(pingTimeout, limits.IdleTimeout), Full: s.warnStreams, Log: s.log,
		},
		tls:    secure,
		others: &handed{Listener: s.ln, conns: make(chan net.Conn), over: make(chan struct{})},
	}
}

// Delays after a connection that could not be accepted.
const firstDelay, maxDelay = 5 * time.Millisecond, time.Second

// serve accepts connections until the listener is closed.
func (o *own) serve() error {
	go func() { _ = o.http.Serve(o.others) }()
	for delay := firstDelay; ; {
		c, err := o.ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // there may be room again
			o.log.Debug("connection not accepted", "error", err)
			time.Sleep(delay)
			delay = min(2*delay, maxDelay)
			continue
		}
		if of, ok := c.(*conn); ok {
			of.bytes = wire.NonBlocking(of.TCPConn)
		}
		if o.tls != nil {
			c = tls.Server(c, o.tls)
		}
		delay = firstDelay
		o.ours.Add(1)
		go o.meet(o.h1.Meet(c))
	}
}

// meet serves a connection, until it has ended or net/http gets it.
func (o *own) meet(c *h1.Caller) {
	handed := false
	defer o.ours.Add(-1)
	defer func() {
		if p := recover(); p != nil {
			o.log.Error("panic", "peer", c.RemoteAddr(), "panic", p, "stack", string(debug.Stack()))
		}
		if !handed {
			_ = c.Close()
		}
	}()
	var err error
	if handed, err = o.serveCaller(c); err != nil {
		o.log.Debug("connection ended", "peer", c.RemoteAddr(), "error", err)
	}
}

// serveCaller tells whether net/http has got the connection.
func (o *own) serveCaller(c *h1.Caller) (handed bool, err error) {
	speaks2, said, err := c.SpeaksHTTP2()
	var none tls.RecordHeaderError
	switch {
	case errors.As(err, &none) && none.Conn != nil:
		_, _ = io.WriteString(none.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nThis server speaks TLS: https://\n")
		return false, err
	case err != nil:
		return false, err
	case speaks2:
		return false, o.h2.Serve(o.contextOf(c), c.Conn, o.Server, said)
	}
	if err := c.ServePlain(); err != nil {
		return false, err
	}
	return o.others.give(c), nil
}

// shutdown ends each connection after its calls. It waits until no more connections are handed to net/http, and no plain calls are under way on the connections
// of net/http, or until ctx ends. Otherwise net/http, when it ends, would close connections that it takes for idle.
func (o *own) shutdown(ctx context.Context) {
	o.h1.Shutdown()
	o.h2.Shutdown()
	await(ctx, func() bool { return o.ours.Load() == 0 && !o.h1.Busy() })
}

// between implements http.Server.ConnState.
func (o *own) between(c net.Conn, state http.ConnState) {
	if caller, ok := c.(*h1.Caller); ok && state == http.StateIdle {
		caller.Between()
	}
}

// handed is the listener from which net/http accepts the connections that are handed to it.
type handed struct {
	net.Listener
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.over:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.over) })
	return nil
}

// give hands a connection to net/http, unless the listener is closed.
func (h *handed) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.over:
		return false
	}
}
