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
)

// call is one request and its response. It is the http.ResponseWriter of its handler.
type call struct {
	flow
	caller *caller
	end    context.CancelFunc // of the request's context; nil before it runs

	request  http.Request
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

// ofConnections are headers that HTTP/2 does not have.
var ofConnections = [...]string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"}

// pseudoHeaders are those of requests. Some clients send an authority that is empty.
var pseudoHeaders = [...]string{":method", ":scheme", ":authority", ":path"}

// take makes the request of its headers; last: it has no body. It returns what is wrong with them (RFC 9113, section 8.3).
func (c *call) take(fields []hpack.HeaderField, last bool) (flaw string) {
	var pseudo [len(pseudoHeaders)]string
	var had [len(pseudoHeaders)]bool
	var regular int
	for ; regular < len(fields) && strings.HasPrefix(fields[regular].Name, ":"); regular++ {
		f := fields[regular]
		at := slices.Index(pseudoHeaders[:], f.Name)
		if at < 0 || had[at] || !httpguts.ValidHeaderFieldValue(f.Value) {
			return "its pseudo-headers"
		}
		pseudo[at], had[at] = f.Value, true
	}
	method, scheme, authority, path := pseudo[0], pseudo[1], pseudo[2], pseudo[3]
	if flaw = flawOf(fields[regular:]); flaw != "" {
		return flaw
	}
	header := addFields(nil, fields[regular:])
	if authority == "" {
		authority = header.Get("Host")
	}
	r := &c.request
	var err error
	switch {
	case method == http.MethodConnect && path == "" && scheme == "" && authority != "":
		r.URL, r.RequestURI = &url.URL{Host: authority}, authority
	case method == "" || method == http.MethodConnect || path == "" || scheme != "http" && scheme != "https" || strings.Contains(authority, "@"):
		return "its pseudo-headers"
	default:
		if r.URL, err = parsePath(path); err != nil {
			return "its path"
		}
		r.RequestURI = path
	}
	r.Method, r.Host, r.Header = method, authority, header
	r.Proto, r.ProtoMajor, r.RemoteAddr = "HTTP/2.0", 2, c.caller.remote
	if scheme == "https" {
		r.TLS = c.caller.secure
	}
	c.takeBody(last)
	if length, ok := header["Content-Length"]; ok && len(length) > 1 || c.length > 0 && last {
		return "its content-length"
	}
	c.check(header)
	return ""
}

// takeBody is take for what the headers say of the body.
func (c *call) takeBody(last bool) {
	r := &c.request
	r.Body, r.ContentLength = requestBody{c}, -1
	if said := r.Header.Get("Content-Length"); said != "" {
		r.ContentLength = 0
		if n, err := strconv.ParseUint(said, 10, 63); err == nil {
			r.ContentLength, c.length = int64(n), int64(n)
		}
	}
	if last {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	if httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue") {
		delete(r.Header, "Expect")
		c.asks.Store(true)
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
}

// check refuses a request with headers that HTTP/2 does not have.
func (c *call) check(header http.Header) {
	for _, key := range ofConnections {
		if _, ok := header[key]; ok {
			c.refuse(http.StatusBadRequest, "HTTP/2 has no header "+key)
		}
	}
	if te := header["Te"]; len(te) > 1 || len(te) == 1 && te[0] != "trailers" && te[0] != "" {
		c.refuse(http.StatusBadRequest, "TE may only be trailers in HTTP/2")
	}
}

// refuse has a status be the answer, and not that of the handler.
func (c *call) refuse(status int, why string) {
	c.refused, c.why = status, why
	if c.request.Body == nil {
		c.request.Body = requestBody{c}
	}
}

// takeTrailers takes what comes after the body.
func (c *call) takeTrailers(fields []hpack.HeaderField) bool {
	for _, f := range fields {
		if strings.HasPrefix(f.Name, ":") {
			return false
		}
	}
	c.trailers = append(c.trailers, fields...)
	return flawOf(fields) == ""
}

// parsePath is url.ParseRequestURI, and faster for what most paths are.
func parsePath(path string) (*url.URL, error) {
	for i := range len(path) {
		switch b := path[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '.', b == '_':
		case b == '/' && (i == 0 || i > 1):
		default:
			return url.ParseRequestURI(path)
		}
	}
	if path[0] != '/' {
		return url.ParseRequestURI(path)
	}
	return &url.URL{Path: path}, nil
}

// run serves the call.
func (c *call) run() {
	ctx, end := context.WithCancel(c.caller.ctx)
	c.l.mu.Lock()
	live := c.live()
	c.end = end
	c.l.mu.Unlock()
	defer c.finish()
	switch {
	case !live: // it was reset at once
	case c.refused != 0:
		http.Error(c, c.why, c.refused)
	default:
		c.isHead = c.request.Method == http.MethodHead
		c.caller.handler.ServeHTTP(c, c.request.WithContext(ctx))
	}
}

// requestBody is the body of a request.
type requestBody struct{ *call }

// Read implements io.Reader.
func (b requestBody) Read(p []byte) (int, error) {
	b.proceed()
	n, err := b.receive(p)
	if errors.Is(err, io.EOF) && b.trailers != nil {
		for key, values := range addFields(nil, b.trailers) {
			if _, announced := b.request.Trailer[key]; announced {
				b.request.Trailer[key] = values
			}
		}
		b.trailers = nil
	}
	return n, err
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
