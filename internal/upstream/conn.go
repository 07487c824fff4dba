package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"holdline/internal/wire"
)

// Limits of every connection to an endpoint.
const (
	dialTimeout = time.Second // DNS, TCP; and again for TLS
	// expectTimeout is how long we wait for the service's 100 after a caller's Expect: 100-continue;
	// many servers never send it.
	expectTimeout = time.Second
	idleTimeout   = 90 * time.Second
	maxIdleConns  = 512 // HTTP/1.1, per endpoint
	// After keepAliveAfter, TCP probes an idle connection; HTTP/2 does not,
	// because many servers punish its pings (GOAWAY, too_many_pings). Within
	// keepAliveFor the other end has to acknowledge.
	keepAliveAfter = 15 * time.Second
	keepAliveFor   = 5 * time.Second
	// lastWords is how long a failed write of a first request over TLS waits for the
	// alert that says why.
	lastWords = 100 * time.Millisecond
)

// errSilent is the error of attempts at an endpoint that gives no sign of life.
var errSilent = errors.New("the endpoint gives no sign of life")

// errUnacknowledged is the error of attempts on a connection that has lost its path.
var errUnacknowledged = errors.New("nothing of what was sent is acknowledged")

// dialer returns the function that dials connections for calls. The endpoint knows these connections, and closes all of them when it turns out
// to be silent.
func (e *Endpoint) dialer(major int) func(ctx context.Context, network, host string) (net.Conn, error) {
	dialer := &net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAliveAfter, Interval: time.Second, Count: int(keepAliveFor / time.Second)},
		Control:         limitSilence,
	}
	return func(ctx context.Context, network, host string) (net.Conn, error) {
		if e.silent.Load() {
			return nil, errSilent // net/http itself may dial again for a GET
		}
		dialled, err := dialer.DialContext(ctx, network, cmp.Or(e.addr, host))
		if err != nil {
			return nil, err
		}
		if !e.isNetHTTP() {
			dialled = wire.NonBlocking(dialled)
		}
		c := e.newConn(dialled, major)
		if !e.addConn(c) {
			_ = dialled.Close()
			return nil, errSilent
		}
		return c, nil
	}
}

// newTransport returns a transport of net/http for calls.
func (e *Endpoint) newTransport(major int) *http.Transport {
	return &http.Transport{
		DialContext:           e.dialer(major),
		TLSHandshakeTimeout:   dialTimeout,
		ExpectContinueTimeout: expectTimeout,
		MaxIdleConnsPerHost:   maxIdleConns,
		IdleConnTimeout:       idleTimeout,
		DisableCompression:    true, // bytes pass as they are
		Protocols:             new(http.Protocols),
	}
}

// newHealthTransport returns a transport that asks each question on a connection of
// its own. So calls cannot delay a question, and no question is sent on a connection that
// died unnoticed.
func (e *Endpoint) newHealthTransport(major int) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, Control: limitSilence}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, host string) (net.Conn, error) {
			dialled, err := dialer.DialContext(ctx, network, cmp.Or(e.addr, host))
			if err != nil {
				return nil, err
			}
			return e.newConn(dialled, major), nil
		},
		TLSHandshakeTimeout: dialTimeout,
		DisableKeepAlives:   true,
		IdleConnTimeout:     dialTimeout, // for a connection whose dial ended after its question was given up
		Protocols:           new(http.Protocols),
	}
}

// overHTTP2 makes a transport speak HTTP/2 to the endpoint, and nothing else.
func (e *Endpoint) overHTTP2(t *http.Transport) *http.Transport {
	if e.url.Scheme == "https" {
		t.Protocols.SetHTTP2(true)
		t.TLSClientConfig = &tls.Config{VerifyConnection: negotiated, MinVersion: tls.VersionTLS12}
	} else {
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return t
}

// overHTTP1 makes a transport speak HTTP/1.1, and nothing else.
func overHTTP1(t *http.Transport) *http.Transport {
	t.Protocols.SetHTTP1(true)
	return t
}

// conn is a connection to an endpoint. Its channel shows when it is closed, also by its
// transport, and it reports every sign of life to the endpoint.
type conn struct {
	net.Conn
	endpoint *Endpoint
	major    int // the version of HTTP that is spoken on it; 0 when TLS hides what is read
	once     sync.Once
	closed   chan struct{}
	begun    bool          // something was read; transports read from one goroutine
	first    chan struct{} // closed when begun becomes true
	foreign  atomic.Bool   // the other side speaks another version
	dead     atomic.Bool   // the connection was closed because its path is lost
	answered atomic.Bool   // the connection has brought a response, so its TLS handshake is over on both sides
}

func (e *Endpoint) newConn(dialled net.Conn, major int) *conn {
	if e.url.Scheme == "https" {
		major = 0
	}
	return &conn{Conn: dialled, endpoint: e, major: major, closed: make(chan struct{}), first: make(chan struct{})}
}

// connOf is our part of a connection; nil if it has none.
func connOf(info httptrace.GotConnInfo) *conn {
	under := info.Conn
	if secure, ok := under.(*tls.Conn); ok {
		under = secure.NetConn()
	}
	c, _ := under.(*conn)
	return c
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.endpoint.hear()
		if !c.begun {
			c.begun = true
			c.greeted(p[:n])
			close(c.first)
		}
	}
	if err != nil && c.dead.Load() {
		err = errUnacknowledged
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil && c.endpoint.url.Scheme == "https" && !c.answered.Load() {
		// A server that refuses the handshake sends an alert, and closes. The transport's
		// reader finds the alert and closes this connection, unless the failed write closes it first.
		timer := time.NewTimer(lastWords)
		defer timer.Stop()
		select {
		case <-c.closed:
		case <-timer.C:
		}
	}
	return n, err
}

// SyscallConn implements syscall.Conn.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	under, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return under.SyscallConn()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.endpoint.removeConn(c)
	})
	return c.Conn.Close()
}
