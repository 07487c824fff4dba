package h1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"holdline/internal/wire"
)

const (
	// bodyPatience is how long the body of a plain request may come after its head, before the request is left to net/http.
	bodyPatience = 10 * time.Millisecond
	// maxWatchPause is watchPause of a caller who has been held for a while.
	maxWatchPause = 250 * time.Millisecond
)

// errAborted ends a connection whose handler has broken off its response.
var errAborted = errors.New("http1: the response was broken off")

// serve has the server's handler serve a request that was read as a plain one, so that net/http need not read it again. It returns false, and leaves the
// request unread, where that is not possible: over TLS, where nobody would see that the caller has left, or if the body is late.
func (c *Caller) serve(begun http.Handler) (served bool, err error) {
	if c.server.Handler == nil || c.peeker == nil {
		return false, nil
	}
	body, ok := c.Body(bodyPatience)
	if !ok {
		return false, nil
	}
	body = bytes.Clone(body)
	c.in.use(c.n + c.head.length)
	if c.base == nil {
		c.base, c.remote = context.Background(), c.RemoteAddr().String()
		if c.server.Context != nil {
			c.base = c.server.Context(c)
		}
	}
	ctx, gone := context.WithCancel(c.base)
	defer gone()
	c.watchFor(gone)
	defer c.watchFor(nil)
	w := &reply{c: c}
	defer w.end()
	c.begun = begun
	w.handle(c.request(ctx, body))
	return true, w.err
}

// request is what net/http would make of the request.
func (c *Caller) request(ctx context.Context, body []byte) *http.Request {
	parts := &struct {
		url    url.URL
		body   whole
		length [1]string
	}{url.URL{Path: c.head.first}, whole{body}, [...]string{strconv.Itoa(len(body))}}
	header := wire.AddFields(make(http.Header, len(c.head.fields)+1), c.head.fields)
	header["Content-Length"] = parts.length[:]
	r := http.Request{
		Method: http.MethodPost, URL: &parts.url, RequestURI: c.head.first, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Host: c.head.host, RemoteAddr: c.remote, Body: &parts.body, ContentLength: int64(len(body)),
	}
	return r.WithContext(ctx) // a copy, so that r is on the stack
}

// whole is a body that has come, or was read.
type whole struct{ rest []byte }

// Read implements io.Reader. The end comes with the last bytes, as it does in net/http: who passes it on has to know that it is whole before there is an answer.
func (b *whole) Read(p []byte) (int, error) {
	n := copy(p, b.rest)
	if b.rest = b.rest[n:]; len(b.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// Whole is for wire.Whole.
func (b *whole) Whole() ([]byte, bool) {
	all := b.rest
	b.rest = nil
	return all, true
}

// Close implements io.Closer.
func (b *whole) Close() error {
	b.rest = nil
	return nil
}
