package h2

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/wire"
)

// call is one request and its response. It is the http.ResponseWriter of its handler.
type call struct {
	flow
	caller *caller
	end    context.CancelFunc // of the request's context; nil before it runs

	pseudo   [len(pseudoHeaders)]string
	fields   []hpack.HeaderField
	url      *url.URL // nil for a path that is plain
	bodyless bool
	plain    wire.Request
	answer   *wire.Response      // to a plain call: no handler has run
	request  *http.Request       // of the handler; nil before one runs
	asks     atomic.Bool         // the client waits for 100 Continue
	trailers []hpack.HeaderField // that have come
	refused  int                 // the status that is the answer, whatever the handler says; 0: none
	why      string

	response
	reading, writing *time.Timer // deadlines
}

// data implements owner.
func (c *call) data(int) (flaw string) { return "" }

// ended implements owner. The response may take longer.
func (c *call) ended() {}

// removed implements owner.
func (c *call) removed() {
	if c.end != nil {
		c.end()
	}
}

// pseudoHeaders are those of requests. Some clients send an authority that is empty.
var pseudoHeaders = [...]string{":method", ":scheme", ":authority", ":path"}

// take takes the headers of the request; last: it has no body. It returns what is wrong with them (RFC 9113, section 8.3).
func (c *call) take(fields []hpack.HeaderField, last bool) (flaw string) {
	var had [len(pseudoHeaders)]bool
	regular := 0
	for ; regular < len(fields) && strings.HasPrefix(fields[regular].Name, ":"); regular++ {
		f := fields[regular]
		at := slices.Index(pseudoHeaders[:], f.Name)
		if at < 0 || had[at] || !httpguts.ValidHeaderFieldValue(f.Value) {
			return "its pseudo-headers"
		}
		c.pseudo[at], had[at] = f.Value, true
	}
	c.fields = slices.Clone(fields[regular:])
	if flaw = flawOf(c.fields); flaw != "" {
		return flaw
	}
	method, scheme, authority, path := c.pseudo[0], c.pseudo[1], c.pseudo[2], c.pseudo[3]
	var err error
	switch {
	case method == http.MethodConnect && path == "" && scheme == "" && authority != "":
		c.url = &url.URL{Host: authority}
	case !httpguts.ValidHeaderFieldName(method) || method == http.MethodConnect || path == "" || scheme != "http" && scheme != "https" || !httpguts.ValidHostHeader(c.host()):
		return "its pseudo-headers" // a method, too, is a token
	case !wire.IsPlain(path):
		if c.url, err = url.ParseRequestURI(path); err != nil {
			return "its path"
		}
	}
	c.bodyless = last
	return c.check()
}

// host is what the request calls the server.
func (c *call) host() string {
	if authority := c.pseudo[2]; authority != "" {
		return authority
	}
	for _, f := range c.fields {
		if f.Name == "host" {
			return f.Value
		}
	}
	return ""
}

// check deals with the headers that HTTP/2 reads, or does not have.
func (c *call) check() (flaw string) {
	lengths, tes := 0, 0
	for _, f := range c.fields {
		if wire.OfConnection(f.Name) {
			c.refuse(http.StatusBadRequest, "HTTP/2 has no header "+http.CanonicalHeaderKey(f.Name))
		}
		switch f.Name {
		case "content-length":
			n, err := strconv.ParseUint(f.Value, 10, 63)
			if lengths++; lengths > 1 || err != nil {
				return "its content-length"
			}
			c.length = int64(n)
		case "te":
			if tes++; tes > 1 || f.Value != "trailers" && f.Value != "" {
				c.refuse(http.StatusBadRequest, "TE may only be trailers in HTTP/2")
			}
		case "expect":
			if httpguts.HeaderValuesContainsToken([]string{f.Value}, "100-continue") {
				c.asks.Store(true)
			}
		}
	}
	if c.length > 0 && c.bodyless {
		return "its content-length"
	}
	return ""
}

// makeRequest makes the request that a handler gets.
func (c *call) makeRequest(ctx context.Context) *http.Request {
	var r http.Request
	r.Header = wire.AddFields(nil, c.fields)
	r.URL, r.RequestURI = c.url, c.pseudo[3]
	switch {
	case r.URL == nil:
		r.URL = &url.URL{Path: r.RequestURI}
	case r.RequestURI == "":
		r.RequestURI = r.URL.Host
	}
	r.Method, r.Host = c.pseudo[0], c.host()
	r.Proto, r.ProtoMajor, r.RemoteAddr = "HTTP/2.0", 2, c.caller.remote
	if c.pseudo[1] == "https" {
		r.TLS = c.caller.secure
	}
	r.Body, r.ContentLength = requestBody{c}, -1
	if said := r.Header.Get("Content-Length"); said != "" {
		r.ContentLength, _ = strconv.ParseInt(said, 10, 64) // check has read it
	}
	if c.bodyless {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	if c.asks.Load() {
		delete(r.Header, "Expect")
	}
	if cookies := r.Header["Cookie"]; len(cookies) > 1 { // they may come in crumbs
		r.Header["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	for _, keys := range r.Header["Trailer"] {
		for key := range strings.SplitSeq(keys, ",") {
			if key = http.CanonicalHeaderKey(strings.TrimSpace(key)); httpguts.ValidTrailerHeader(key) {
				if r.Trailer == nil {
					r.Trailer = http.Header{}
				}
				r.Trailer[key] = nil
			}
		}
	}
	delete(r.Header, "Trailer")
	return r.WithContext(ctx) // a copy, so that r is on the stack
}

// refuse has a status be the answer, and not that of the handler.
func (c *call) refuse(status int, why string) {
	c.refused, c.why = status, why
}

// takeTrailers takes what comes after the body. A request that has announced its trailers may have none that frames or routes it.
func (c *call) takeTrailers(fields []hpack.HeaderField) bool {
	announced := slices.ContainsFunc(c.fields, func(f hpack.HeaderField) bool { return f.Name == "trailer" })
	for _, f := range fields {
		if announced && !httpguts.ValidTrailerHeader(http.CanonicalHeaderKey(f.Name)) {
			return false
		}
	}
	c.trailers = append(c.trailers, fields...)
	return flawOf(fields) == ""
}

// Run implements wire.Job: it serves the call.
func (c *call) Run() {
	defer c.finish()
	if c.refused != 0 {
		c.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, c.why, c.refused) }))
		return
	}
	res, handler := c.servePlain()
	switch {
	case res != nil:
		c.answer = res
	case handler != nil: // it has begun, and is to end
		c.serve(handler)
	case c.isLive():
		c.serve(c.caller.handler)
	}
}

// isLive tells whether nothing has ended the call.
func (c *call) isLive() bool {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	return c.live()
}

// serve has a handler serve the call.
func (c *call) serve(handler http.Handler) {
	c.request = c.makeRequest(c.context(0))
	c.isHead = c.request.Method == http.MethodHead
	handler.ServeHTTP(c, c.request)
}

// requestBody is the body of a request.
type requestBody struct{ *call }

// Read implements io.Reader.
func (b requestBody) Read(p []byte) (int, error) {
	b.proceed()
	n, err := b.receive(p)
	if errors.Is(err, io.EOF) && b.trailers != nil {
		for key, values := range wire.AddFields(nil, b.trailers) {
			if _, announced := b.request.Trailer[key]; announced {
				b.request.Trailer[key] = values
			}
		}
		b.trailers = nil
	}
	return n, err
}

// Whole is for wire.Whole.
func (b requestBody) Whole() ([]byte, bool) {
	b.l.mu.Lock()
	defer b.l.mu.Unlock()
	if b.trailers != nil || b.asks.Load() {
		return nil, false
	}
	return b.rest()
}

// Close implements io.Closer.
func (b requestBody) Close() error { return nil }

// proceed has a client send its body, if it waits to be asked.
func (c *call) proceed() {
	if c.asks.CompareAndSwap(true, false) {
		c.informational(http.StatusContinue, nil)
	}
}

// SetReadDeadline is for http.ResponseController. A Read that is late ends the body.
func (c *call) SetReadDeadline(t time.Time) error {
	c.schedule(&c.reading, t, func() {
		c.late = true
		c.signal()
	})
	return nil
}

// SetWriteDeadline is for http.ResponseController. A response that is late is broken off, and its request with it.
func (c *call) SetWriteDeadline(t time.Time) error {
	c.schedule(&c.writing, t, func() { c.breakOff(http2.ErrCodeInternal, os.ErrDeadlineExceeded) })
	return nil
}

// schedule does something at a time, instead of at the one before. A zero time is never.
func (c *call) schedule(timer **time.Timer, t time.Time, late func()) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if *timer != nil {
		(*timer).Stop()
	}
	switch wait := time.Until(t); {
	case t.IsZero():
	case wait <= 0:
		late()
	default:
		*timer = time.AfterFunc(wait, func() {
			c.l.mu.Lock()
			defer c.l.mu.Unlock()
			late()
		})
	}
}

// EnableFullDuplex is for http.ResponseController: HTTP/2 always is.
func (c *call) EnableFullDuplex() error { return nil }
