package upstream

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"time"

	"holdline/internal/wire"
)

// Begun is an attempt of a plain call, whose request was sent. If Answer returns nil, put it into Request.Begun, and Try goes on with it.
type Begun struct {
	Came   time.Time // when its call came
	Body   []byte    // of the request
	Failed bool      // the response is an error

	attempt
	at       time.Time // when it began
	seat     seat
	exchange wire.Exchange
}

// Begin sends a plain call of a media type; came is when the call came. It returns nil if anything about the endpoint or the type is unusual.
// Then nothing was sent.
func (e *Endpoint) Begin(req *wire.Request, mediaType string, came time.Time) *Begun {
	major := e.versions.pick(req.Major, protocolOf(mediaType) == OnlyGRPC)
	_, lacks := e.pool.Lacks(mediaType)
	if lacks || e.silent.Load() || major == 0 || !e.versions.yes[of(major)].Load() || !e.versions.speaks(major) || e.pool.lacks[mediaType] == nil {
		return nil
	}
	b := &Begun{Came: came, at: time.Now(), Body: req.Body, attempt: attempt{endpoint: e, mediaType: mediaType, major: major, cuts: e.cuts.Load(), shown: true}}
	e.begin()
	transport := e.h1
	if major == 2 {
		b.sent.seat = e.h2.place(&b.seat, len(req.Body))
		transport = b.sent.seat.transport
	}
	if client, ok := transport.(wire.PlainClient); ok {
		req.Scheme = e.url.Scheme
		b.exchange = client.Begin(req)
	}
	if b.exchange == nil {
		e.end(b.sent.seat)
		return nil
	}
	return b
}

// Endpoint is where the request was sent.
func (b *Begun) Endpoint() *Endpoint { return b.endpoint }

// Answer waits for the response, for most at most (0: without limit), or until there is news of the caller. It returns nil unless the
// response can pass to the caller as it is: the caller can read it, and it is none after which the call is tried again.
func (b *Begun) Answer(news <-chan struct{}, most time.Duration) *wire.Response {
	return b.AnswerIf(news, most, func(res *wire.Response) (passes bool) {
		passes, b.Failed = answers(res, protocolOf(b.mediaType))
		return passes
	})
}

// AnswerIf is Answer with another rule for which responses pass to the caller.
func (b *Begun) AnswerIf(news <-chan struct{}, most time.Duration, passes func(*wire.Response) bool) *wire.Response {
	res := b.exchange.Whole(news, most)
	if res == nil || !passes(res) {
		return nil
	}
	b.exchange.End()
	e := b.endpoint
	e.end(b.sent.seat)
	e.speaks(b.major)
	e.understood(e.pool.lacks[b.mediaType], res.Status)
	e.note(Answered)
	return res
}

// answers tells whether a response to a unary call passes as it is, and whether it is an error. It must agree with look.
func answers(res *wire.Response, asked Protocol) (passes, failed bool) {
	spoken, status := AnyProtocol, ""
	for _, f := range res.Header {
		switch f.Name {
		case "content-type":
			spoken = protocolOf(f.Value)
		case "grpc-status":
			if status != "" { // the header is there twice
				return false, false
			}
			status = f.Value
		case "connection": // it names headers that must not pass
			return false, false
		}
	}
	if status != "" && len(res.Body)+len(res.Trailers) > 0 {
		return false, false
	}
	for _, f := range res.Trailers {
		switch f.Name {
		case "grpc-status":
			if status != "" {
				return false, false
			}
			status = f.Value
		case "content-length":
			return false, false
		}
	}
	switch {
	case spoken != asked:
	case asked == OnlyGRPC:
		return res.Status == http.StatusOK && status != "" && ofStatus(status).Kind == Answered, status != "0"
	case status != "" || len(res.Trailers) > 0:
	case res.Status == http.StatusOK:
		return true, false
	case res.Status >= http.StatusBadRequest:
		return res.Status != http.StatusUnsupportedMediaType && !saysTryAgain(res.Status), true
	}
	return false, false
}

// goOn is Try for an attempt that was begun.
func (b *Begun) goOn(ctx context.Context, req *Request) (*Response, Outcome, error) {
	b.req = req
	b.sent.taken.Store(true)
	b.sent.gotConn(httptrace.GotConnInfo{Conn: b.exchange.Conn()})
	timeout := req.Timeout
	switch {
	case b.exchange.HeadCame():
		timeout = 0
	case timeout > 0:
		timeout = max(timeout-time.Since(b.at), 1)
	}
	ctx, inTime := bound(ctx, timeout)
	informed := req.informed(b.sent.seat)
	if informed == nil {
		informed = func(int, http.Header) error { return nil }
	}
	raw, err := b.exchange.Await(ctx, informed)
	inTime()
	return b.conclude(ctx, raw, nil, err)
}
