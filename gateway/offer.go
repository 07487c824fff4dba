package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"sync/atomic"
	"time"

	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// errDraining ends a hold whose task is kept.
var errDraining = errors.New("the gateway is draining")

// drained is the cause of an offer that ended since the gateway drains.
const drained = "drained"

// offer sends the call to one MOM. Within the given time the MOM has to say that
// it has the call, with a 103 or with its answer; after that, it may hold, until the
// caller's time is over or the gateway drains. h.stored is set once the MOM said that
// it has the call.
func (h *handOff) offer(ctx context.Context, mom *upstream.Endpoint, within time.Duration) (*upstream.Response, upstream.Outcome) {
	req := h.request()
	holding, release := context.WithCancelCause(ctx) // ends with ctx at the latest
	var over atomic.Bool                             // answered, or given up: whichever comes first
	end := func(why error) {
		if over.CompareAndSwap(false, true) {
			release(why)
		}
	}
	tooLate := func() { end(upstream.ErrTryTimeout) }
	clock, limit := time.AfterFunc(within, tooLate), time.AfterFunc(time.Until(h.until), tooLate)
	said := make(chan string, 1)
	traced := httptrace.WithClientTrace(holding, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			if id := header.Get(contract.HeaderTask); code == http.StatusEarlyHints && id != "" && clock.Stop() {
				said <- id
				// Ends with the offer, or with the drain.
				context.AfterFunc(h.draining, func() { h.leaveKept(holding, id, end) })
			}
			return nil
		},
	})
	res, outcome, err := mom.Try(traced, &req)
	clock.Stop()
	limit.Stop()
	if res != nil && !over.CompareAndSwap(false, true) {
		// There may be no more of it than its head.
		res.Drop()
		<-holding.Done()
		res, outcome = nil, upstream.Outcome{Kind: upstream.Broken, Cause: "try-timeout"}
	}
	select {
	case h.stored = <-said:
	default:
	}
	if res != nil {
		return res, outcome
	}
	if errors.Is(context.Cause(holding), errDraining) {
		outcome = upstream.Outcome{Kind: upstream.CallerLeft, Cause: drained}
	}
	release(nil)
	h.log.Debug("hand-off failed", "task", h.id.String(), "endpoint", mom, "cause", outcome.Cause, "error", err)
	return nil, outcome
}

// request is the next offer: the call, and what is left of its caller's time.
func (h *handOff) request() upstream.Request {
	h.offers++
	req := h.req
	req.Timeout, req.OneWrite = 0, true // one is for services alone, the other for the MOM
	req.Header = h.header.Clone()       // a last offer may be read yet
	req.Header.Set(contract.HeaderOffer, strconv.FormatInt(h.offers, 10))
	if prefer := contract.Prefer(req.Header); h.offers > 1 && prefer.Hold() > 0 {
		// In whole seconds, so that the MOM ends the hold before we have to.
		prefer.Wait, prefer.HasWait = max(time.Until(h.until).Truncate(time.Second), 0), true
		req.Header.Set(contract.HeaderPrefer, prefer.Applied())
	}
	if !h.deadline.IsZero() {
		contract.SetTimeout(req.Header, time.Until(h.deadline))
	}
	return req
}

// leaveKept ends a hold because the gateway drains, once its task is kept. One that
// cannot be kept is held on: its caller must not get the handle of a task that goes
// with it.
func (h *handOff) leaveKept(holding context.Context, id string, end func(error)) {
	if !h.kept {
		kept := make(chan bool, 1)
		h.words.keep.add(id, kept)
		select {
		case ok := <-kept:
			if !ok {
				return
			}
		case <-holding.Done():
			return
		}
	}
	end(errDraining)
}
