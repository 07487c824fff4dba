package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"time"
)

// Request is a call as an attempt sends it. The same Request may be tried
// again, at another endpoint too, if its body can be replayed.
type Request struct {
	// In is the request as it came from the caller: method, path, query, host
	// and HTTP version are taken from it.
	In *http.Request
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
	// Alone: the attempt shares its HTTP/2 connection with no other, so that neither
	// takes the other along when it breaks.
	Alone bool
}

var errSwitched = errors.New("101 without an Upgrade")

// Try sends the request to this endpoint, once. The response is nil unless
// there are response headers; whoever gets one closes its body. The error is
// for the log: what to do follows from the outcome. Cancelling ctx ends the
// attempt and its response; causes of its own are ErrDeadline and ErrTryTimeout.
func (e *Endpoint) Try(ctx context.Context, req *Request) (*Response, Outcome, error) {
	if e.silent.Load() {
		return nil, Outcome{NotSent, Silent}, errSilent
	}
	mediaType, _ := req.Written()
	needs2 := protocolOf(mediaType) == grpc
	for tried := false; ; tried = true {
		major := e.versions.pick(req.In.ProtoMajor, needs2)
		if major == 0 {
			e.pool.lacksHTTP2.note(true)
			return nil, Outcome{Unsendable, NeedsHTTP2}, errVersion
		}
		res, outcome, err := e.try(ctx, req, major)
		switch {
		case outcome.Cause != wrongVersion:
			return res, outcome, err
		case needs2:
			e.pool.lacksHTTP2.note(true)
			return nil, Outcome{Unsendable, NeedsHTTP2}, err
		case tried, e.versions.pick(req.In.ProtoMajor, needs2) == major, req.Stream != nil && !req.Stream.Rewind():
			return nil, outcome, err
		}
	}
}

// try is Try in one version of HTTP.
func (e *Endpoint) try(ctx context.Context, req *Request, major int) (*Response, Outcome, error) {
	cuts, shown := e.cuts.Load(), e.versions.yes[of(major)].Load()
	e.begin()
	inTime := func() {}
	if req.Timeout > 0 {
		bounded, cancel := context.WithCancelCause(ctx) // ends with ctx, as the response does
		timer := time.AfterFunc(req.Timeout, func() { cancel(ErrTryTimeout) })
		inTime = func() { timer.Stop() }
		ctx = bounded
	}
	transport, seat := e.transport(req, major)
	sent := &sent{seat: seat}
	out := e.request(&ctx, req, major, shown, sent)
	raw, err := transport.RoundTrip(out.WithContext(ctx))
	inTime()
	sending, streams := out.Body.(*sending)
	if err != nil {
		outcome := sent.outcome(ctx, err, major)
		if streams {
			_ = sending.Close() // the transport may get to it later
			if sending.broken.Load() && ctx.Err() == nil {
				outcome = Outcome{CallerLeft, "request-broken"} // no fault of the endpoint's
			}
		}
		if e.cuts.Load() != cuts && (outcome.Kind == Broken || outcome.Kind == NotSent) {
			outcome.Cause = Silent
		}
		e.end(seat)
		if (outcome.Kind == Broken || outcome.Kind == NotSent) && hungUp(outcome.Cause) && major == 1 && !shown && ctx.Err() == nil && e.onlyHTTP2(ctx) {
			outcome = Outcome{NotSent, wrongVersion}
		}
		if outcome.Cause == wrongVersion {
			e.versions.show(major, false)
		} else {
			e.note(outcome.Kind)
		}
		return nil, outcome, err
	}
	e.speaks(major)
	if c := sent.conn.Load(); c != nil {
		c.answered.Store(true)
	}
	if raw.StatusCode == http.StatusSwitchingProtocols {
		// Nobody asked for it: Upgrade does not pass. What follows is no HTTP.
		_ = raw.Body.Close()
		e.end(seat)
		return nil, Outcome{Broken, "switched-protocols"}, errSwitched
	}
	if streams {
		sending.begin()
	}
	res := &Response{Response: raw, body: raw.Body, endpoint: e, seat: seat}
	var outcome Outcome
	if req.Look {
		outcome = e.judge(ctx, req, res, major)
	}
	e.note(outcome.Kind)
	return res, outcome, nil
}

// transport is that for a version of HTTP. Over HTTP/2 the call has a seat, to be left
// when it has ended.
func (e *Endpoint) transport(req *Request, major int) (*http.Transport, *seat) {
	if major < 2 {
		return e.h1, nil
	}
	var seat *seat
	switch {
	case req.Alone:
		seat = e.h2.takeAlone()
	case req.Stream == nil && len(req.Body) < connWindow:
		seat = e.h2.take(len(req.Body))
	case req.Stream == nil:
		seat = e.h2.takeUpload("")
	case 0 <= req.Length && req.Length < connWindow:
		seat = e.h2.take(int(req.Length))
	default:
		seat = e.h2.takeUpload(req.In.RemoteAddr)
	}
	return seat.Transport, seat
}

// end counts an attempt out.
func (e *Endpoint) end(seat *seat) {
	e.inflight.Add(-1)
	if seat != nil {
		seat.leave()
	}
}

// sent is how far the request of one attempt has come.
type sent struct {
	taken atomic.Bool          // the transport has all of it
	given atomic.Bool          // a connection has what is nothing but headers
	conn  atomic.Pointer[conn] // once there is one, and only if something depends on it
	tls   atomic.Pointer[tls.Conn]
	seat  *seat // nil over HTTP/1.1
}

// outcome classifies an attempt without a response.
func (s *sent) outcome(ctx context.Context, err error, httpMajor int) Outcome {
	// HTTP/2 may write the headers yet that it was given, when it is us who ended it.
	taken := s.taken.Load() || s.given.Load() && ctx.Err() != nil
	if ctx.Err() == nil && s.foreign(err) {
		return Outcome{NotSent, wrongVersion}
	}
	if cause := unsendable(err); cause != "" && ctx.Err() == nil {
		return Outcome{Unsendable, cause}
	}
	if alert := s.refusal(err); alert != nil {
		taken, err = false, alert
	}
	return ofError(ctx, err, taken, httpMajor)
}

// refusal returns the alert by which the server refused the TLS handshake; nil if it
// did not. A write that failed, or the end of a read of the caller's body, may be
// what the transport heard of first.
func (s *sent) refusal(err error) error {
	c, secure := s.conn.Load(), s.tls.Load()
	if c == nil || secure == nil || c.answered.Load() {
		return nil
	}
	if refusesHandshake(err) {
		return err
	}
	select {
	case <-c.closed: // so this reads nothing, and says how reading ended
		if _, err := secure.Read(make([]byte, 1)); refusesHandshake(err) {
			return err
		}
	default:
	}
	return nil
}

// gotConn is for httptrace.
func (s *sent) gotConn(info httptrace.GotConnInfo) {
	if secure, ok := info.Conn.(*tls.Conn); ok {
		s.tls.Store(secure)
	}
	if c := connOf(info); c != nil {
		s.conn.Store(c)
	}
}

// request builds the outgoing request.
func (e *Endpoint) request(ctx *context.Context, req *Request, major int, shown bool, sent *sent) *http.Request {
	u := *req.In.URL
	u.Scheme, u.Host = e.url.Scheme, e.url.Host
	out := &http.Request{
		Method:     req.In.Method,
		ProtoMajor: 1, ProtoMinor: 1, // at least, or Expect is not looked at
		URL:           &u,
		Host:          req.In.Host,
		Header:        unspoken(req.Header),
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
		trace = &httptrace.ClientTrace{GotConn: sent.gotConn}
		out.Body = &sending{Stream: req.Stream, sent: sent, over: make(chan struct{})}
	case len(req.Body) > 0 && !req.OneWrite:
		body := &body{taken: &sent.taken}
		body.Reset(req.Body)
		out.Body = body
	default:
		// No reads to count: with the headers goes the message, if there is one.
		out.Body, out.ContentLength = http.NoBody, int64(len(req.Body))
		if len(req.Body) > 0 {
			out.Body = io.NopCloser(bytes.NewReader(req.Body)) // net/http knows this one
		}
		trace = &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) {
				sent.gotConn(info)
				sent.given.Store(len(req.Body) == 0)
			},
			WroteHeaders: func() { sent.taken.Store(true) },
		}
		if req.OneWrite && sent.seat != nil {
			// The MOM says that it has the call, and may hold its caller for long.
			trace.Got1xxResponse = func(code int, _ textproto.MIMEHeader) error {
				if code == http.StatusEarlyHints {
					sent.seat.ended(0)
				}
				return nil
			}
		}
	}
	if !shown {
		trace = onConn(trace, sent.gotConn)
		if major == 2 {
			trace = e.awaitGreeting(*ctx, trace)
		}
	}
	if sent.seat != nil && HeaderBytes(req.Header) > LargeHeaders {
		trace = e.meetFirst(*ctx, sent.seat.Transport, trace)
	}
	if trace != nil {
		*ctx = httptrace.WithClientTrace(*ctx, trace)
	}
	return out
}

// unspoken spells the names of some headers so that net/http does not know them.
// It takes a request that has one for repeatable, and over HTTP/1.1 would send it
// again after a connection was lost, whether the service has seen it or not.
func unspoken(header http.Header) http.Header {
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
