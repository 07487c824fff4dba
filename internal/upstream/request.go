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
// again, also at another endpoint, if its body can be replayed.
type Request struct {
	Method string
	URL    *url.URL // its path and query are sent
	Host   string   // empty: the endpoint's own
	// HTTPMajor is the version of HTTP in which it is sent, 1 or 2, unless the endpoint only speaks the other one.
	HTTPMajor int
	// Peer names the caller's connection, such as http.Request.RemoteAddr; empty if there is none. Large
	// bodies from the same Peer share a connection.
	Peer string
	// Header has the headers to send. The transport only reads it.
	Header http.Header
	// Body is the whole body of a unary call; used unless Stream is set.
	Body []byte
	// Stream is a body that is not kept: it is sent on while the caller sends it.
	Stream *Stream
	// Length of the body in bytes; -1 when it is unknown.
	Length int64
	// Timeout bounds the time to the response's headers; 0: no bound.
	Timeout time.Duration
	// OneWrite lets HTTP/1.1 send headers and body together. This is cheaper, but
	// shows less exactly whether the body was taken. It is for calls to the MOM, which may get
	// a call twice.
	OneWrite bool
	// Look: the head of the response is read to classify it. For unary calls.
	Look bool
	// Known: the call is a stream of a known method, and can be sent in another protocol. So the response is only checked for
	// whether the endpoint understands this protocol.
	Known bool
	// Alone: the attempt shares its HTTP/2 connection with no other attempt, so that neither
	// breaks when the other breaks the connection.
	Alone bool

	// Informed is called for each 1xx response, one at a time. If it returns an error, the attempt ends. Nil: 1xx responses are dropped.
	Informed func(code int, header http.Header) error

	// Begun is an attempt that was begun: the next Try goes on with it, and clears it. Nil if there is none.
	Begun *Begun
}

// Received returns the Request for a caller's HTTP request, without its body.
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
	u.RawQuery = strings.ReplaceAll(u.RawQuery, " ", "%20") // HTTP/2 allows a blank in the query; in HTTP/1.1 a blank ends the request target
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
		// The transport closes the connection also when the attempt is cancelled.
		trace = &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
			sent.gotConn(info)
			sent.given.Store(!req.Stream.unary) // a service may run a stream before the first message
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
			out.Body = io.NopCloser(bytes.NewReader(req.Body)) // net/http sends a body of this type together with the headers
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

// informed returns the function that is called for each 1xx response; nil: none. A 103 of a MOM means that the MOM has the call. The MOM may then hold the caller for long, so the
// call's bytes do not count for its lane any more.
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

// hideIdempotencyKey spells the names of two headers so that net/http does not recognize them.
// net/http takes a request with such a header for repeatable. Over HTTP/1.1 it would send the request
// again after a connection was lost, whether the service has seen the request or not.
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
		header[strings.ToLower(key)] = values // the same on the wire, where case does not matter
	}
	return header
}

// body is a replayable body that records when its last byte was taken.
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

// WriteTo hides bytes.Reader.WriteTo, which would not record when the bytes are taken.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{b})
}

func (b *body) Close() error { return nil }
