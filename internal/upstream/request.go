package upstream

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Request is a call as an attempt sends it. The same Request may be tried
// again, at another endpoint too, if its body can be replayed.
type Request struct {
	Method string
	URL    *url.URL // its path and query are sent
	Host   string   // empty: the endpoint's own
	// HTTPMajor is the version of HTTP in which it is sent, 1 or 2, unless the endpoint only speaks the other one.
	HTTPMajor int
	// Peer is the connection that it came on, such as http.Request.RemoteAddr; empty for none. Large
	// bodies from one share a connection.
	Peer string
	// Header is what is sent. The transport only reads it.
	Header http.Header
	// Body is the whole body of a unary call; used unless Stream is set.
	Body []byte
	// Stream is a body that is not kept: it is sent as its caller sends it.
	Stream *Stream
	// Length of the body in bytes; -1 when it is unknown.
	Length int64
	// Timeout bounds the time to the response's headers; 0 does not.
	Timeout time.Duration
	// OneWrite lets HTTP/1.1 send headers and body together. It is cheaper, and
	// says less exactly whether the body was taken: for the MOM, which may be
	// sent a call twice.
	OneWrite bool
	// Look at the head of the response to classify it: for unary calls.
	Look bool
	// Known: it is a stream of a method that we know, and can be sent in another protocol. Look only
	// whether the endpoint understands this one.
	Known bool
	// Alone: the attempt shares its HTTP/2 connection with no other, so that neither
	// takes the other along when it breaks.
	Alone bool

	// Informed hears of responses of 1xx, one at a time. An error of its ends the attempt. Nil: nobody hears of them.
	Informed func(code int, header http.Header) error

	// Begun is an attempt that was begun: the next Try goes on with it, and clears it. Nil where there is none.
	Begun *Begun
}

// Received returns a request as it came from a caller, without its body.
func Received(r *http.Request) Request {
	return Request{Method: r.Method, URL: r.URL, Host: r.Host, HTTPMajor: r.ProtoMajor, Peer: r.RemoteAddr, Header: r.Header, Length: r.ContentLength}
}

// Made returns a request that a client library has made, to be sent in a version of HTTP. It reads a body whose length is
// known.
func Made(r *http.Request, httpMajor int) (*Request, error) {
	req := &Request{Method: r.Method, URL: r.URL, HTTPMajor: httpMajor, Header: r.Header}
	switch {
	case r.Body == nil:
		return req, nil
	case r.ContentLength < 0:
		req.Stream, req.Length = NewStream(r.Body, false), -1
		return req, nil
	}
	var err error
	req.Body, err = io.ReadAll(r.Body)
	req.Length = int64(len(req.Body))
	return req, err
}

// request builds the outgoing request.
func (e *Endpoint) request(ctx *context.Context, req *Request, major int, shown bool, sent *sent) *http.Request {
	u := *req.URL
	u.Scheme, u.Host = e.url.Scheme, e.url.Host
	u.RawQuery = strings.ReplaceAll(u.RawQuery, " ", "%20") // HTTP/2 takes a blank there, and in HTTP/1.1 the target would end with it
	out := &http.Request{
		Method:     req.Method,
		ProtoMajor: 1, ProtoMinor: 1, // net/http looks at Expect from HTTP/1.1 on
		URL:           &u,
		Host:          req.Host,
		Header:        hideIdempotencyKey(req.Header),
		ContentLength: req.Length,
		GetBody:       func() (io.ReadCloser, error) { return nil, errResend },
	}
	var trace *httptrace.ClientTrace
	if u.Scheme == "https" {
		trace = &httptrace.ClientTrace{GotConn: sent.gotConn}
	}
	switch {
	case req.Stream != nil:
		// Its transport closes the connection when the attempt is cancelled, too.
		trace = &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
			sent.gotConn(info)
			sent.given.Store(!req.Stream.unary) // a service may run it before there is a message
		}}
		out.Body = &sending{Stream: req.Stream, sent: sent, over: make(chan struct{})}
	case len(req.Body) > 0 && (!req.OneWrite || !e.isNetHTTP()):
		body := &body{taken: &sent.taken}
		body.Reset(req.Body)
		out.Body = body
	default:
		// The message, if there is one, goes with the headers, so there are no reads to count.
		out.Body, out.ContentLength = http.NoBody, int64(len(req.Body))
		if len(req.Body) > 0 {
			out.Body = io.NopCloser(bytes.NewReader(req.Body)) // net/http sends this type with the headers
		}
		trace = &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) {
				sent.gotConn(info)
				sent.given.Store(len(req.Body) == 0)
			},
			WroteHeaders: func() { sent.taken.Store(true) },
		}
	}
	if informed := req.informed(sent.seat); informed != nil {
		if trace == nil {
			trace = new(httptrace.ClientTrace)
		}
		trace.Got1xxResponse = func(code int, header textproto.MIMEHeader) error { return informed(code, http.Header(header)) }
	}
	if !shown {
		trace = onConn(trace, sent.gotConn)
		if major == 2 {
			trace = e.awaitGreeting(*ctx, trace)
		}
	}
	if sent.seat != nil && HeaderBytes(req.Header) > LargeHeaders {
		trace = e.meetFirst(*ctx, sent.seat.transport, trace)
	}
	if trace != nil {
		*ctx = httptrace.WithClientTrace(*ctx, trace)
	}
	return out
}

// informed is what hears of responses of 1xx; nil: nothing does. With a 103 a MOM says that it has the call. It may hold its caller for long then, and the
// bytes of the call are free again.
func (r *Request) informed(seat *seat) func(code int, header http.Header) error {
	if !r.OneWrite || seat == nil {
		return r.Informed
	}
	return func(code int, header http.Header) error {
		if code == http.StatusEarlyHints {
			seat.ended(0)
		}
		if r.Informed == nil {
			return nil
		}
		return r.Informed(code, header)
	}
}

// hideIdempotencyKey spells the names of some headers so that net/http does not know them.
// It takes a request that has one for repeatable, and over HTTP/1.1 would send it
// again after a connection was lost, whether the service has seen it or not.
func hideIdempotencyKey(header http.Header) http.Header {
	copied := false
	for _, key := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		values, ok := header[key]
		if !ok {
			continue
		}
		if !copied {
			header, copied = maps.Clone(header), true
		}
		delete(header, key)
		header[strings.ToLower(key)] = values // the same on the wire, where case says nothing
	}
	return header
}

// body is a replayable body that says when its last byte was taken.
type body struct {
	bytes.Reader
	taken *atomic.Bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.Len() == 0 {
		b.taken.Store(true)
		err = io.EOF // with the last bytes: HTTP/2 then ends the stream in the same frame
	}
	return n, err
}

// WriteTo hides the Reader's, which would not say when the bytes are taken.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{b})
}

func (b *body) Close() error { return nil }
