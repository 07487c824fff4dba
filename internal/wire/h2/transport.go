// Package h2 speaks HTTP/2 (RFC 9113) for the direct path: it does for a gateway what net/http does for everybody, at less cost.
package h2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/wire"
)

// Errors of requests of which nothing was sent: the server does not take as large headers, or the connection ended before
// a byte was written.
var (
	ErrHeadersTooLarge = errors.New("http2: the headers are larger than the server takes")
	ErrUnsent          = errors.New("http2: not sent")
)

// errFull is the error of a request that the server's limits leave no room for. Nothing was sent.
var errFull = http2.StreamError{Code: http2.ErrCodeRefusedStream, Cause: errors.New("http2: the server takes no streams")}

// Transport sends requests to one server. It has one connection, and more when the server allows fewer streams on one. It is an
// http.RoundTripper with httptrace's GotConn, WroteHeaders and Got1xxResponse, and sends nothing twice. A stream that
// the server has surely not touched ends in an http2.StreamError with REFUSED_STREAM: it was refused, or is above the last
// one of a GOAWAY. It is safe for concurrent use.
type Transport struct {
	wire.Dialer
	// ExpectTimeout bounds the wait for 100 Continue, and IdleTimeout the life of a connection without streams.
	ExpectTimeout, IdleTimeout time.Duration

	mu      sync.Mutex
	conns   []*conn
	dialing *dialing
}

// dialing is a connection that many may wait for.
type dialing struct {
	done chan struct{}
	c    *conn
	err  error
}

// maxDials is how often one request dials: a server may have no room on any connection.
const maxDials = 3

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	s, err := t.open(ctx, req)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	informed := wire.Informed(ctx)
	if s.body == nil {
		return s.Await(ctx, informed)
	}
	if !wire.Asks(req.Header) {
		go s.send(wire.Length(req))
		return s.Await(ctx, informed)
	}
	// Many servers never answer what they are asked.
	proceed := sync.OnceFunc(func() { go s.send(wire.Length(req)) })
	defer time.AfterFunc(t.ExpectTimeout, proceed).Stop()
	defer proceed() // at the latest beside the response; or to close the body
	return s.Await(ctx, func(code int, header http.Header) error {
		if code == http.StatusContinue {
			proceed()
		}
		return informed(code, header)
	})
}

// open sends the head of a request on a connection, and its body if that is at hand.
func (t *Transport) open(ctx context.Context, req *http.Request) (*stream, error) {
	if err := wire.Valid(req.Header); err != nil {
		return nil, err
	}
	trace := httptrace.ContextClientTrace(ctx)
	for dials := 0; ; {
		c := t.pick()
		if c == nil {
			if dials++; dials > maxDials {
				return nil, errFull
			}
			var err error
			if c, err = t.dial(ctx, req); err != nil {
				return nil, err
			}
		}
		if trace != nil && trace.GotConn != nil {
			trace.GotConn(httptrace.GotConnInfo{Conn: c.Conn})
		}
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		s, err := c.open(req)
		if errors.Is(err, errNoRoom) || errors.Is(err, ErrUnsent) && dials == 0 { // a connection that was idle
			continue
		}
		if err == nil && trace != nil && trace.WroteHeaders != nil {
			trace.WroteHeaders()
		}
		return s, err
	}
}

// pick is a connection that takes another stream; nil without one. Those that have ended are forgotten.
func (t *Transport) pick() *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found *conn
	t.conns = slices.DeleteFunc(t.conns, func(c *conn) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if found == nil && c.room() {
			found = c
		}
		return c.leaving
	})
	return found
}

// dial adds a connection. Those who need one at the same time wait for the same. It may have ended already; then open tells why.
func (t *Transport) dial(ctx context.Context, req *http.Request) (*conn, error) {
	t.mu.Lock()
	d := t.dialing
	if d == nil {
		d = &dialing{done: make(chan struct{})}
		t.dialing = d
		go func() {
			opened, err := t.Open(context.WithoutCancel(ctx), req.URL, http2.NextProtoTLS) // it outlives the request
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.dialing, d.err = nil, err; err == nil {
				d.c = newConn(opened, t.IdleTimeout)
				t.conns = append(t.conns, d.c)
			}
			close(d.done)
		}()
	}
	t.mu.Unlock()
	select {
	case <-d.done:
		return d.c, d.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// CloseIdleConnections closes the connections without streams.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns = slices.DeleteFunc(t.conns, func(c *conn) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.streams) == 0 {
			c.leave()
		}
		return c.leaving
	})
}

// errNoRoom says that a connection takes no stream now.
var errNoRoom = errors.New("http2: the connection takes no more streams")

// room tells whether a connection takes another stream; mu is held.
func (c *conn) room() bool {
	limit := int64(firstStreams)
	switch {
	case c.limit >= 0:
		limit = c.limit
	case c.greeted:
		limit = maxWindow
	}
	return !c.leaving && int64(len(c.streams)) < limit && c.next <= lastStream
}

// open opens a stream. What is appended here counts as sent.
func (c *conn) open(req *http.Request) (*stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnsent, c.err)
	case !c.room():
		return nil, errNoRoom
	}
	if size := c.encode(req); size > c.maxFields {
		return nil, ErrHeadersTooLarge
	}
	s := c.newStream()
	s.bare = req.Method == http.MethodHead
	length := wire.Length(req)
	if length != 0 {
		if !wire.AtHand(req.Body) || length < 0 || length > min(maxFrame, c.window, s.window) || len(c.out) > maxUnwritten {
			s.body = req.Body
		}
	}
	s.sent = s.body == nil
	flags := http2.Flags(0)
	if s.sent && length == 0 {
		flags = http2.FlagHeadersEndStream
	}
	c.headerBlock(s.id, flags)
	if s.sent && length > 0 {
		c.frame(http2.FrameData, http2.FlagDataEndStream, s.id, int(length))
		at := len(c.out)
		c.out = slices.Grow(c.out, int(length))[:at+int(length)]
		if _, err := io.ReadFull(req.Body, c.out[at:]); err != nil {
			c.out = c.out[:at-frameHead]
			c.reset(s.id, http2.ErrCodeCancel)
			c.remove(&s.flow)
			return nil, err
		}
		c.window -= length
		s.window -= length
	}
	if s.sent && req.Body != nil {
		_ = req.Body.Close()
	}
	c.flush()
	return s, nil
}

// newStream begins a stream; mu is held.
func (c *conn) newStream() *stream {
	s := &stream{c: c, from: c.handed + int64(len(c.out))}
	s.begin(&c.link, s, c.next)
	c.next += 2
	return s
}

// encode encodes the head of a request, unless it is too large; then it returns how large it is. mu is held.
func (c *conn) encode(req *http.Request) (size uint64) {
	pseudo := pseudoFields(cmp.Or(req.Host, req.URL.Host), req.Method, req.URL.RequestURI(), req.URL.Scheme)
	size = sizeOf(pseudo[:])
	for key, values := range req.Header {
		if !ofHTTP1[key] {
			for _, value := range values {
				size += uint64(len(key) + len(value) + 32)
			}
		}
	}
	if size > c.maxFields {
		return size
	}
	c.newBlock()
	c.addAll(pseudo[:])
	for key, values := range req.Header {
		if ofHTTP1[key] {
			continue
		}
		name := wire.Lower(key)
		for _, value := range values {
			if key != "Te" || value == "trailers" {
				c.add(name, value)
			}
		}
	}
	if wire.SaysLength(req) {
		c.add("content-length", strconv.FormatInt(wire.Length(req), 10))
	}
	return size
}

// pseudoFields are those that begin a request.
func pseudoFields(authority, method, path, scheme string) [4]hpack.HeaderField {
	return [...]hpack.HeaderField{
		{Name: ":authority", Value: authority}, {Name: ":method", Value: method}, {Name: ":path", Value: path}, {Name: ":scheme", Value: scheme},
	}
}

// sizeOf is the size of fields as RFC 9113, section 6.5.2, counts it.
func sizeOf(fields []hpack.HeaderField) (size uint64) {
	for _, f := range fields {
		size += uint64(f.Size())
	}
	return size
}

// ofHTTP1 are headers that HTTP/2 has not, or has elsewhere.
var ofHTTP1 = map[string]bool{
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Transfer-Encoding": true, "Upgrade": true, "Host": true, "Content-Length": true,
}

// errLength is the error of a body that is not as long as was announced.
var errLength = errors.New("http2: the body of the request is not as long as its content-length")

// send sends a body beside its response.
func (s *stream) send(length int64) {
	defer func() { _ = s.body.Close() }()
	part := wire.Room(nil, maxFrame)[:maxFrame]
	defer wire.GiveBack(part)
	for sent := int64(0); ; {
		n, err := s.body.Read(part)
		sent += int64(n)
		end := errors.Is(err, io.EOF)
		switch {
		case length >= 0 && (sent > length || end && sent < length):
			s.abort(errLength)
			return
		case err != nil && !end:
			s.abort(err)
			return
		}
		s.l.mu.Lock()
		pushed := s.push(part[:n], end)
		s.l.flush()
		s.l.mu.Unlock()
		if !pushed || end {
			return
		}
	}
}
