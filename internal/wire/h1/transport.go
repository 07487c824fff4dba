// Package h1 speaks HTTP/1.1 (RFC 9112) for the direct path. A request is written, and its response read, by the goroutine that asks: net/http
// has two more for each connection, and hands every call to them and back.
package h1

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdline/internal/wire"
)

// ErrNew goes with the error of a connection that has never brought a response: the server may not speak HTTP/1.1.
var ErrNew = errors.New("http1: on a new connection")

const (
	// maxHead is the largest head of a response that is taken, in bytes.
	maxHead = 1 << 20
	// atOnce is the largest body that is written before the response is read. A service that answers without reading a larger one
	// would wait for us, and we for it.
	atOnce = 16 << 10
	// maxKept is the largest buffer, in bytes, that an idle connection keeps.
	maxKept = 4 << 10
	// lastWords is how long the answer to a request that could not be written is waited for.
	lastWords = 100 * time.Millisecond
	// earlier is how long before its server we close an idle connection.
	earlier = time.Second
	// sweepPause is the time between two looks at the idle connections.
	sweepPause = time.Second
)

// Transport sends requests to one server. It is an http.RoundTripper with httptrace's GotConn, WroteHeaders and Got1xxResponse,
// and sends nothing twice: a connection that the server has closed is found before anything is written to it. It is safe for concurrent use.
type Transport struct {
	wire.Dialer
	// ExpectTimeout bounds the wait for 100 Continue, and IdleTimeout the life of a connection without requests.
	ExpectTimeout, IdleTimeout time.Duration
	// MaxIdle is how many connections without requests are kept.
	MaxIdle int

	mu     sync.Mutex
	idle   []*conn // the one used last is last
	sweep  *time.Timer
	closed bool // CloseIdleConnections was called, and no request has come since
}

// conn is a connection.
type conn struct {
	net.Conn
	*wire.Peeker
	ahead buffer // what plain exchanges have read
	in    *bufio.Reader
	out   []byte
	left  int64 // bytes that may still be read of a head
	since time.Time
	// keep is how long it may be idle.
	keep time.Duration
	wake time.Time // when a Read ends without anything; zero: never
}

var (
	errHead   = errors.New("http1: the head of the response is too large")
	errStatus = errors.New("http1: the status of the response is below 100")
)

// Read implements io.Reader, for in.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHead
	}
	n, err, ok := c.ahead.take(p)
	if !ok {
		n, err = c.Conn.Read(p)
	}
	c.left -= int64(n)
	return n, err
}

// wakeAt has a Read end at a time.
func (c *conn) wakeAt(t time.Time) {
	if !c.wake.Equal(t) {
		_ = c.SetReadDeadline(t)
		c.wake = t
	}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.roundTrip(req)
	if err != nil && req.Body != nil {
		_ = req.Body.Close()
	}
	return res, err
}

func (t *Transport) roundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if err := wire.Valid(req.Header); err != nil {
		return nil, err
	}
	trace := httptrace.ContextClientTrace(ctx)
	c := t.take()
	fresh := c == nil
	if fresh {
		opened, err := t.Open(ctx, req.URL, "http/1.1")
		if err != nil {
			return nil, cmp.Or(context.Cause(ctx), err)
		}
		c = &conn{Conn: opened, Peeker: wire.NewPeeker(opened)}
		c.in = bufio.NewReader(c)
	}
	if trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: c.Conn})
	}
	x := &exchange{t: t, c: c, req: req, trace: trace, informed: wire.Informed(ctx)}
	x.bind(ctx)
	var proceed func()
	if proceed, x.failed = x.write(); x.asked != nil {
		defer x.asked.Stop() // a server that answers without asking for it does not want it
	}
	res, err := x.receive(proceed)
	if err != nil && fresh && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", ErrNew, err)
	}
	return res, err
}

// take is an idle connection that the server has not closed; nil without one.
func (t *Transport) take() *conn {
	for {
		t.mu.Lock()
		t.closed = false
		last := len(t.idle) - 1
		if last < 0 {
			t.mu.Unlock()
			return nil
		}
		c := t.idle[last]
		t.idle[last] = nil
		t.idle = t.idle[:last]
		t.mu.Unlock()
		// What comes without a request is the end, or no answer to the next one.
		if time.Since(c.since) < c.keep && c.unused() && c.Peek() == wire.Nothing {
			return c
		}
		_ = c.Close()
	}
}

// unused tells whether nothing more than the last response was read. What TLS has decrypted and nobody has read is not seen on
// the connection below it.
func (c *conn) unused() bool {
	if _, secure := c.Conn.(*tls.Conn); !secure {
		return true
	}
	c.left = 1
	c.wakeAt(time.Unix(1, 0))
	_, err := c.in.Peek(1)
	c.wakeAt(time.Time{})
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// put keeps a connection for the next request.
func (t *Transport) put(c *conn) {
	c.since, c.out = time.Now(), keep(c.out)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) >= t.MaxIdle || t.closed {
		_ = c.Close()
		return
	}
	if t.idle = append(t.idle, c); t.sweep == nil {
		t.sweep = time.AfterFunc(sweepPause, t.lookThrough)
	}
}

// lookThrough closes connections that were idle for too long, and those that the server has closed.
func (t *Transport) lookThrough() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle = slices.DeleteFunc(t.idle, func(c *conn) bool {
		over := time.Since(c.since) >= c.keep || c.Peek() != wire.Nothing
		if over {
			_ = c.Close()
		}
		return over
	})
	if len(t.idle) == 0 {
		t.sweep = nil
		return
	}
	t.sweep.Reset(sweepPause)
}

// keepAlive is how long a connection may be idle, by what its server said, and at most that long. Many close one after a few seconds, and
// some say when (Keep-Alive: timeout=5). A request that comes at that moment is lost, and nobody knows whether it was read. So we are earlier.
func keepAlive(said string, keep time.Duration) time.Duration {
	for part := range strings.SplitSeq(said, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if seconds, err := strconv.ParseUint(value, 10, 31); err == nil && strings.EqualFold(name, "timeout") {
			keep = min(keep, time.Duration(seconds)*time.Second-earlier)
		}
	}
	return keep
}

// CloseIdleConnections closes the connections without requests, and those with requests when these end.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.idle {
		_ = c.Close()
	}
	if t.idle, t.closed = nil, true; t.sweep != nil {
		t.sweep.Stop()
		t.sweep = nil
	}
}

// exchange is one request and its response.
type exchange struct {
	t        *Transport
	c        *conn
	req      *http.Request   // nil: it is a plain one
	ctx      context.Context //nolint:containedctx // it is the request's own
	trace    *httptrace.ClientTrace
	informed func(code int, header http.Header) error // hears 1xx
	stop     func() bool                              // false when ctx has ended the exchange
	failed   error                                    // of writing the request
	sent     chan struct{}                            // closed when a body that is sent beside the response has been; nil without one
	whole    bool                                     // then: all of it was
	asked    *time.Timer                              // the server was asked whether to send it
}

// bind has the exchange end with a context.
func (x *exchange) bind(ctx context.Context) {
	x.ctx = ctx
	x.c.wakeAt(time.Time{})
	x.stop = context.AfterFunc(ctx, func() { _ = x.c.Close() })
}

// receive returns the response; or an error, when the exchange has ended. proceed is called when the server asks for the body.
func (x *exchange) receive(proceed func()) (*http.Response, error) {
	res, err := x.read(proceed)
	if err == nil {
		return res, nil
	}
	x.stop()
	_ = x.c.Close()
	if x.ctx.Err() != nil {
		err = context.Cause(x.ctx)
	}
	return nil, err
}

func (x *exchange) read(proceed func()) (*http.Response, error) {
	if x.failed != nil { // the server may have said why it does not take it
		x.c.wakeAt(time.Now().Add(lastWords))
	}
	for range wire.MaxInformational {
		x.c.left = maxHead
		res, err := http.ReadResponse(x.c.in, x.req)
		switch {
		case x.failed != nil && (err != nil && !isAlert(err) || err == nil && res.StatusCode < http.StatusOK):
			return nil, x.failed
		case err != nil:
			return nil, err
		case res.StatusCode < http.StatusContinue:
			return nil, errStatus
		case res.StatusCode == http.StatusContinue:
			proceed()
		case res.StatusCode >= http.StatusOK, res.StatusCode == http.StatusSwitchingProtocols:
			x.c.left = 1<<63 - 1
			if x.failed != nil {
				res.Close = true
				x.c.wakeAt(time.Time{})
			}
			return x.answer(res), nil
		}
		if err := x.informed(res.StatusCode, res.Header); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("http1: too much before the head of the response")
}

// isAlert tells whether an error is an alert of TLS that the server has sent.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// answer makes the response one that gives its connection back.
func (x *exchange) answer(res *http.Response) *http.Response {
	x.c.keep = x.t.IdleTimeout
	for _, value := range res.Header["Keep-Alive"] {
		x.c.keep = keepAlive(value, x.c.keep)
	}
	switch n := res.ContentLength; {
	case res.StatusCode == http.StatusSwitchingProtocols: // what follows is no HTTP
		res.Body = &body{ReadCloser: http.NoBody, x: x}
	case res.Body == http.NoBody:
		x.release(!res.Close)
	case 0 < n && n <= int64(x.c.in.Buffered()):
		raw := make([]byte, n)
		_, _ = io.ReadFull(x.c.in, raw) // from memory
		x.release(!res.Close)
		res.Body = &whole{raw}
	default:
		res.Body = &body{ReadCloser: res.Body, x: x, reuse: !res.Close}
	}
	return res
}

// release ends the exchange; reuse: the response has been read to its end.
func (x *exchange) release(reuse bool) {
	if x.sent != nil {
		select {
		case <-x.sent:
			reuse = reuse && x.whole
		default:
			reuse = false
			_ = x.req.Body.Close() // ends a Read
		}
	}
	if x.stop() && reuse && x.c.in.Buffered() == 0 && len(x.c.ahead.unread()) == 0 {
		x.t.put(x.c)
		return
	}
	_ = x.c.Close()
}

// body is that of a response.
type body struct {
	io.ReadCloser
	x     *exchange
	reuse bool
	once  sync.Once
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	b.once.Do(func() { b.x.release(b.reuse && errors.Is(err, io.EOF)) })
	if b.x.ctx.Err() != nil && !errors.Is(err, io.EOF) {
		err = context.Cause(b.x.ctx)
	}
	return n, err
}

// Close implements io.Closer. It ends a Read that is under way.
func (b *body) Close() error {
	b.once.Do(func() { b.x.release(false) })
	return nil
}
