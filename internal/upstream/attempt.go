package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"holdline/internal/wire/h1"
	"holdline/internal/wire/h2"
)

var (
	errSwitched = errors.New("101 without an Upgrade")
	errStatus   = errors.New("a status below 100")
)

// Try sends the request to this endpoint, once. The response is nil unless
// there are response headers; the caller must close a response. The error is only
// for the log: the outcome decides what to do next. Cancelling ctx ends the
// attempt and its response. Three cancellation causes have outcomes of their own: ErrDeadline, ErrTryTimeout and ErrEnding.
func (e *Endpoint) Try(ctx context.Context, req *Request) (*Response, Outcome, error) {
	if begun := req.Begun; begun != nil {
		req.Begun = nil
		return begun.goOn(ctx, req)
	}
	if err := ctx.Err(); err != nil { // a transport could still write the request
		return nil, ofError(ctx, err, false, req.HTTPMajor), err
	}
	if e.silent.Load() {
		return nil, Outcome{NotSent, Silent}, errSilent
	}
	mediaType, _ := req.Written()
	needs2 := protocolOf(mediaType) == OnlyGRPC
	if (req.Known || needs2 && req.Look && isJSON(mediaType)) && e.mistakes(ctx, req, mediaType) {
		return nil, Outcome{Unsendable, UnknownProtocol}, errMistakes
	}
	major := e.versions.pick(req.HTTPMajor, needs2)
	for tried := false; ; tried = true {
		if major == 0 {
			e.lacksOne(&e.pool.lacksHTTP2)
			return nil, Outcome{Unsendable, NeedsHTTP2}, errVersion
		}
		res, outcome, err := e.try(ctx, req, mediaType, major)
		switch {
		case outcome.Cause != wrongVersion:
			return res, outcome, err
		case needs2:
			e.lacksOne(&e.pool.lacksHTTP2)
			return nil, Outcome{Unsendable, NeedsHTTP2}, err
		case tried, !e.versions.speaks(3 - major), req.Stream != nil && !req.Stream.Rewind():
			return nil, outcome, err
		}
		// The endpoint's last connection may have gone, and with it our knowledge of the versions that it speaks. This attempt has just found out.
		major = 3 - major
	}
}

// try is Try in one version of HTTP.
func (e *Endpoint) try(ctx context.Context, req *Request, mediaType string, major int) (*Response, Outcome, error) {
	a := &attempt{endpoint: e, req: req, mediaType: mediaType, major: major, cuts: e.cuts.Load(), shown: e.versions.yes[of(major)].Load()}
	e.begin()
	ctx, inTime := bound(ctx, req.Timeout)
	transport, seat := e.transport(req, major)
	a.sent.seat, a.sent.runs = seat, req.Stream != nil && !req.Stream.unary && !e.isNetHTTP() // net/http may write nothing, and not report that
	out := e.request(&ctx, req, major, a.shown, &a.sent)
	raw, err := transport.RoundTrip(out.WithContext(ctx))
	inTime()
	return a.conclude(ctx, raw, out.Body, err)
}

// bound returns a context that ends after timeout, unless inTime is called before; with timeout 0 it sets no limit.
func bound(ctx context.Context, timeout time.Duration) (_ context.Context, inTime func()) {
	if timeout <= 0 {
		return ctx, func() {}
	}
	bounded, cancel := context.WithCancelCause(ctx) // ends with ctx, as the response does
	timer := time.AfterFunc(timeout, func() { cancel(ErrTryTimeout) })
	return bounded, func() { timer.Stop() }
}

// attempt is an attempt whose request was sent.
type attempt struct {
	endpoint  *Endpoint
	req       *Request
	mediaType string
	major     int
	cuts      int64 // of the endpoint, when it began
	shown     bool  // the endpoint had shown that it speaks this version
	sent      sent
}

// conclude returns the result of an attempt: a response, or an error. body is the body of the request.
func (a *attempt) conclude(ctx context.Context, raw *http.Response, body io.Reader, err error) (*Response, Outcome, error) {
	e, req := a.endpoint, a.req
	sending, streams := body.(*sending)
	if err != nil {
		outcome := a.sent.outcome(ctx, err, a.major)
		if streams {
			_ = sending.Close() // the transport might close it only later
			if sending.broken.Load() && ctx.Err() == nil {
				outcome = Outcome{CallerLeft, "request-broken"} // no fault of the endpoint's
			}
		}
		e.end(a.sent.seat)
		return nil, a.failed(ctx, outcome, err), err
	}
	e.speaks(a.major)
	if c := a.sent.conn.Load(); c != nil {
		c.answered.Store(true)
	}
	switch {
	case raw.StatusCode == http.StatusSwitchingProtocols:
		// We never forward Upgrade, so a 101 is a protocol error: the bytes after it are not HTTP.
		_ = raw.Body.Close()
		e.end(a.sent.seat)
		return nil, Outcome{Broken, "switched-protocols"}, errSwitched
	case raw.StatusCode < http.StatusContinue: // net/http reads one, such as +20, and writes none
		_ = raw.Body.Close()
		e.end(a.sent.seat)
		return nil, Outcome{Broken, causeOf(errStatus)}, errStatus
	}
	res := &Response{Response: raw, body: raw.Body, endpoint: e, seat: a.sent.seat}
	var outcome Outcome
	switch {
	case req.Look:
		outcome = e.judge(ctx, req, res, a.major)
		if outcome.Kind == Answered && req.Stream == nil && !res.begins() {
			// The caller has not got anything of this response, so the outcome is the same as without a head.
			res.Drop()
			return nil, a.failed(ctx, BrokeOff(ctx, res.err), res.err), res.err
		}
	case req.Known:
		outcome = e.judgeStream(ctx, req, res, a.major)
	case a.mediaType == "application/json", a.mediaType == "application/proto":
		outcome = res.unread()
	}
	switch {
	case streams && outcome.Foreign():
		_ = sending.Close() // the next attempt reads
	case streams:
		sending.begin()
	}
	e.note(outcome.Kind)
	return res, outcome, nil
}

// failed corrects the outcome of an attempt without a response by what we know about the endpoint, and has the endpoint note it.
func (a *attempt) failed(ctx context.Context, outcome Outcome, err error) Outcome {
	e := a.endpoint
	if outcome.Kind != Broken && outcome.Kind != NotSent {
		e.note(outcome.Kind)
		return outcome
	}
	if e.cuts.Load() != a.cuts {
		outcome.Cause = Silent
	}
	shown := a.shown
	if errors.Is(err, h1.ErrNew) { // our knowledge of its versions may have gone with its other connections
		shown = shown && e.versions.yes[of(1)].Load()
	}
	switch {
	case !hungUp(outcome.Cause) || shown || ctx.Err() != nil:
	case a.major == 1 && e.onlyHTTP2(ctx), a.major == 2 && a.req.OneWrite && a.sent.unheard():
		outcome = Outcome{NotSent, wrongVersion}
	}
	switch {
	case outcome.Cause == wrongVersion:
		e.versions.show(a.major, false)
	case !outcome.Ours():
		e.note(outcome.Kind)
	}
	return outcome
}

// transport returns the transport for a version of HTTP. Over HTTP/2 the call has a seat, which it leaves
// when it has ended.
func (e *Endpoint) transport(req *Request, major int) (transport, *seat) {
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
		seat = e.h2.takeUpload(req.Peer)
	}
	return seat.transport, seat
}

// end counts an attempt out.
func (e *Endpoint) end(seat *seat) {
	e.inflight.Add(-1)
	if seat != nil {
		seat.leave()
	}
}

// sent records how much of one attempt's request was sent.
type sent struct {
	taken atomic.Bool          // the transport has all of it
	given atomic.Bool          // a connection has the request, whose headers are enough for a service to run it
	conn  atomic.Pointer[conn] // once there is one, and only if something depends on it
	tls   atomic.Pointer[tls.Conn]
	seat  *seat // nil over HTTP/1.1

	runs bool // the service may run the call with the headers alone: it is a stream of any number of messages
}

// outcome classifies an attempt without a response.
func (s *sent) outcome(ctx context.Context, err error, httpMajor int) Outcome {
	// When we end the attempt, HTTP/2 may still write the headers that it was given. The service may run a stream once they are written.
	taken := (s.taken.Load() || s.given.Load() && (s.runs || ctx.Err() != nil)) && !errors.Is(err, h2.ErrUnsent)
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
// did not. The transport may have reported another error first: a failed write, or the end of a
// read of the caller's body.
func (s *sent) refusal(err error) error {
	c, secure := s.conn.Load(), s.tls.Load()
	if c == nil || secure == nil || c.answered.Load() {
		return nil
	}
	if refusesHandshake(err) {
		return err
	}
	select {
	case <-c.closed: // this Read gets no bytes, and returns the error that ended reading
		if _, err := secure.Read(make([]byte, 1)); refusesHandshake(err) {
			return err
		}
	default:
	}
	return nil
}

// unheard tells whether no byte at all has come on the connection. A server of HTTP/2 sends first, so a server that closes the connection without a byte
// probably speaks another version. Or the server is ending; then the attempt in the other version shows that. Because this is a guess, it is made only for servers that may get
// a call twice (OneWrite).
func (s *sent) unheard() bool {
	c := s.conn.Load()
	if c == nil {
		return false
	}
	select {
	case <-c.first:
		return false
	default:
		return true
	}
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
