package gateway

import (
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"holdline/internal/contract"
	"holdline/internal/upstream"
	"holdline/internal/wire"
)

// beginOffer offers a plain call to a MOM, unless there is none, or the service would not understand the call in a replay, or too many callers are held.
func (p *proxy) beginOffer(req *wire.Request, target *target, call plainCall, came time.Time) (first begun) {
	if _, lacks := target.pool.Lacks(call.mediaType); lacks || p.mom == nil {
		return begun{}
	}
	hold := contract.Preference{Async: call.async}.Hold()
	if hold > 0 && !p.hold(target) {
		p.release(target)
		return begun{}
	}
	first = begun{offered: true, id: target.newTaskID(req.Path, call.key), key: call.key, async: call.async}
	first.most = max(min(handOffTime, time.Until(answerBy(came, hold, call.deadline))), 1)
	var room [maxLines]line
	lines := p.says(room[:0], first.id, req.Major, call.mediaType == "application/json")
	lines = p.saysNow(lines, 1, call.deadline, call.grpc)
	offer := newPlainOffer()
	defer offer.free()
	offer.req = wire.Request{Authority: req.Authority, Path: req.Path, Header: offer.room[:0], Body: req.Body}
	for _, f := range req.Header {
		switch {
		case f.Name == "content-length", f.Name == "connect-protocol-version":
		case f.Name == "connect-timeout-ms" && !call.grpc, f.Name == "grpc-timeout" && call.grpc:
		default:
			offer.req.Header = append(offer.req.Header, f)
		}
	}
	first.Begun = offer.begin(p.mom.Pick(), lines, call.mediaType, came)
	if first.Begun == nil && hold > 0 {
		p.release(target)
	}
	return first
}

// isTasks tells whether a MOM's response is surely the task's answer or handle, so that the caller gets it. replyOf reads all other responses.
func isTasks(res *wire.Response) (is bool) {
	for _, f := range res.Header {
		switch f.Name {
		case "holdline-task":
			is = f.Value != ""
		case "holdline-refused", "connection":
			return false
		}
	}
	return is
}

// plainOffer has what the transport needs until it has written an offer. req has no content-length.
type plainOffer struct {
	req  wire.Request
	room [24]hpack.HeaderField
}

var plainOffers = sync.Pool{New: func() any { return new(plainOffer) }}

func newPlainOffer() *plainOffer {
	return plainOffers.Get().(*plainOffer) //nolint:forcetypeassert // nothing else is in it
}

func (o *plainOffer) free() {
	*o = plainOffer{}
	plainOffers.Put(o)
}

// begin adds the content-length and these lines, and begins the offer. It returns nil if nothing was sent.
func (o *plainOffer) begin(mom *upstream.Endpoint, lines []line, mediaType string, came time.Time) *upstream.Begun {
	o.req.Major = 2
	o.req.Header = append(o.req.Header, hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(len(o.req.Body))})
	for _, l := range lines {
		if l.value != "" {
			o.req.Header = append(o.req.Header, hpack.HeaderField{Name: wire.Lower(l.key), Value: l.value})
		}
	}
	size := 0
	for _, f := range o.req.Header {
		size += int(f.Size())
	}
	if size > upstream.LargeHeaders {
		return nil
	}
	return mom.Begin(&o.req, mediaType, came)
}
