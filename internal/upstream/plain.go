package upstream

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"time"

	"holdline/internal/wire"
)

// Begun is an attempt of a plain call, whose request was sent. If Answer returns nothing, then a Request is to GoOn with it.
type Begun struct {
	Came time.Time // its call
	Body []byte    // of the request

	attempt
	at       time.Time // when it began
	seat     seat
	exchange wire.Exchange
}

// Begin sends a plain call of a media type, which came at a time. It returns nil where anything about the endpoint or the type is not as usual.
// Then nothing was sent.
func (e *Endpoint) Begin(req *wire.Request, mediaType string, came time.Time) *Begun {
	major := e.versions.pick(req.Major, protocolOf(mediaType) == OnlyGRPC)
	if e.silent.Load() || major == 0 || !e.versions.yes[of(major)].Load() || !e.versions.speaks(major) || e.pool.lacks[mediaType] == nil {
		return nil
	}
	if e.pool.picky.Load() {
		if _, lacks := e.pool.Lacks(mediaType); lacks {
			return nil
		}
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

// Answer waits for the response, until news come of the caller, or for that long, where 0 is without end. It is nil unless it is a
// response without an error that the caller can read.
func (b *Begun) Answer(news <-chan struct{}, most time.Duration) *wire.Response {
	res := b.exchange.Whole(news, most)
	if res == nil || !answers(res, protocolOf(b.mediaType)) {
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

// answers tells whether a response is one to a unary call in Connect or gRPC, without an error.
func answers(res *wire.Response, asked Protocol) bool {
	spoken, failed := AnyProtocol, asked == OnlyGRPC
	for _, f := range res.Header {
		switch f.Name {
		case "content-type":
			spoken = protocolOf(f.Value)
		case "grpc-status", "connection": // the one is an error, the other names headers that are not to pass
			return false
		}
	}
	for _, f := range res.Trailers {
		switch f.Name {
		case "grpc-status":
			failed = f.Value != "0"
		case "content-length":
			return false
		}
	}
	return res.Status == http.StatusOK && spoken == asked && !failed && (asked == OnlyGRPC || len(res.Trailers) == 0)
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
	raw, err := b.exchange.Await(ctx, wire.Informed(ctx))
	inTime()
	return b.conclude(ctx, raw, nil, err)
}
