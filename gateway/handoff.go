package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// handOffTime is how long the MOM has to say that it has a call. What is left of
// half a second goes to the answer.
const handOffTime = 450 * time.Millisecond

// errDraining ends a hold whose task is kept.
var errDraining = errors.New("the gateway is draining")

// handOff is one call on its way to the MOM: the same bytes, to one more endpoint
// of the route. The task's id is minted here and the call is offered again under
// it, so that a reply that was lost stores nothing twice.
type handOff struct {
	*proxy
	*call
	id     contract.TaskID
	cause  *upstream.Outcome // of the direct try; nil for a call that had none
	header http.Header       // of each offer
	// stored is the task's id as a MOM named it that has the call: the key may name
	// another task than ours.
	stored string
	unsure bool // one may have it
}

// handOff sends the call to the MOM and answers the caller, after explain has been
// told whether it is stored.
func (p *proxy) handOff(ctx context.Context, w http.ResponseWriter, c *call, cause *upstream.Outcome, explain func(step)) {
	key, _ := contract.Key(c.req.Header) // a bad one is the MOM's to refuse
	h := &handOff{
		proxy: p, call: c, cause: cause, header: c.req.Header.Clone(),
		id: contract.NewTaskID(c.target.route.Service, c.target.route.Shards, contract.Anonymous, c.req.In.URL.Path, key),
	}
	h.header.Set(contract.HeaderTask, h.id.String())
	h.header.Set(contract.HeaderCaller, contract.Anonymous)
	if cause != nil {
		h.header.Set(contract.HeaderCause, cause.Cause)
	}
	if prefer := contract.Prefer(h.header); prefer.Hold() > 0 {
		defer p.held.Add(-1)
		if p.held.Add(1) > p.maxHeld {
			p.once.Warn("held", "limit of held callers reached; one more gets its handle at once", "limit", p.maxHeld, "raise", "--max-held")
			h.header.Set(contract.HeaderPrefer, contract.Preference{Async: prefer.Async, HasWait: true}.Applied())
		}
	}
	var last *upstream.Endpoint
	started := time.Now()
	held := started.Add(contract.Prefer(h.header).Hold())
	others := p.mom.Len() - 1
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		last = p.mom.Pick(last)
		res, outcome, said := h.offer(ctx, last, handOffTime-time.Since(started))
		unsure := outcome.Kind == upstream.Broken || res != nil && res.Header.Get(contract.HeaderUnsure) != ""
		h.unsure = h.unsure || unsure
		if res != nil && (unsure || outcome.Kind == upstream.Unavailable) { // it cannot reach its store
			switch {
			case others > 0:
				others-- // another may
				res.Drop()
				continue
			case h.stored != "" || h.unsure:
				// It speaks for itself. With what it says the caller would send a call
				// again that another MOM has, or may have.
				res.Drop()
				res = nil
			}
		}
		if res != nil {
			explain(storedOrFailed(res.Header.Get(contract.HeaderTask) != ""))
			respond(w, c, res, func(bool) {}) // what a MOM breaks off is no fault of the service
			return
		}
		if said != "" {
			// It had the call and left while it held the caller: another MOM,
			// or the same one soon, may hold on, with time of its own.
			h.stored, started = said, time.Now()
			// Else one that we leave for being slow would take the task along.
			h.header = h.header.Clone()
			h.header.Set(contract.HeaderKept, "1")
		}
		switch {
		case outcome.Kind == upstream.CallerLeft && ctx.Err() != nil:
			return
		case outcome.Kind == upstream.CallerLeft, // it is us who drained
			outcome.Kind == upstream.DeadlineOver,
			h.stored != "" && time.Now().After(held),
			time.Since(started) >= handOffTime:
			explain(storedOrFailed(h.stored != ""))
			h.giveUp(w, outcome)
			return
		}
		sleep(ctx, pause)
	}
}

func storedOrFailed(stored bool) step {
	if stored {
		return store
	}
	return fail
}

// offer sends the call to one MOM. Within the given time the MOM has to say that
// it has the call, with a 103 or with its answer; after that, it may hold. Without
// an answer, said is the task's id if it has the call.
func (h *handOff) offer(ctx context.Context, mom *upstream.Endpoint, within time.Duration) (_ *upstream.Response, _ upstream.Outcome, said string) {
	req := h.req
	req.Timeout, req.OneWrite = 0, true // one is for services alone, the other for the MOM
	req.Header = h.header
	if !h.deadline.IsZero() {
		req.Header = h.header.Clone() // a drain may be reading the last one
		contract.SetTimeout(req.Header, time.Until(h.deadline))
	}
	var task atomic.Pointer[string]
	var over atomic.Bool                             // answered, or given up: whichever comes first
	holding, release := context.WithCancelCause(ctx) // ends with ctx at the latest
	end := func(why error) {
		if over.CompareAndSwap(false, true) {
			release(why)
		}
	}
	clock := time.AfterFunc(within, func() { end(upstream.ErrTryTimeout) })
	traced := httptrace.WithClientTrace(holding, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			if id := header.Get(contract.HeaderTask); code == http.StatusEarlyHints && id != "" && clock.Stop() {
				task.Store(&id)
			}
			return nil
		},
	})
	stay := context.AfterFunc(h.draining, func() {
		if id := h.keep(ctx, req); id != "" {
			task.Store(&id)
			end(errDraining)
		}
	})
	res, outcome, err := mom.Try(traced, &req)
	stay()
	clock.Stop()
	if res != nil && !over.CompareAndSwap(false, true) {
		// There may be no more of it than its head.
		res.Drop()
		<-holding.Done()
		res, outcome = nil, upstream.Outcome{Kind: upstream.Broken, Cause: "try-timeout"}
		if errors.Is(context.Cause(holding), errDraining) {
			outcome = upstream.Outcome{Kind: upstream.CallerLeft, Cause: "drained"}
		}
	}
	if res == nil {
		h.log.Debug("hand-off failed", "task", h.id, "endpoint", mom, "cause", outcome.Cause, "error", err)
		release(nil)
		if id := task.Load(); id != nil {
			said = *id
		}
	}
	return res, outcome, said
}

// keep makes sure of a task whose hold is to end with a handle, and returns its id.
// The MOM takes a caller who leaves for one who wants nothing any more, so before we
// leave it the call is offered again, under the same id and without a hold: from then
// on the task is kept.
func (h *handOff) keep(ctx context.Context, req upstream.Request) (task string) {
	req.Header = req.Header.Clone()
	req.Header.Set(contract.HeaderPrefer, "wait=0")
	bounded, cancel := context.WithTimeout(ctx, handOffTime)
	defer cancel()
	res, _, err := h.mom.Pick().Try(bounded, &req)
	if err != nil {
		h.log.Debug("hold not released", "task", h.id, "error", err)
		return "" // the hold goes on, as long as the drain lets it
	}
	res.Drop()
	return res.Header.Get(contract.HeaderTask)
}

// giveUp answers a caller whom no MOM holds.
func (h *handOff) giveUp(w http.ResponseWriter, last upstream.Outcome) {
	why := "the call asked to be stored"
	if h.cause != nil {
		why = h.target.route.Service + " cannot take the call (" + h.cause.Cause + ")"
	}
	var err *connect.Error
	switch {
	case h.stored != "":
		err = contract.Stored(&momv1.TaskHandle{Id: h.stored, State: momv1.TaskState_TASK_STATE_QUEUED})
		grpc := strings.HasPrefix(h.header.Get("Content-Type"), "application/grpc")
		for key, value := range contract.StoredHeader(h.stored, grpc) {
			w.Header().Set(key, value)
		}
	case last.Kind == upstream.DeadlineOver:
		err = failure(last, h.call)
	case h.unsure && h.repeatable():
		err = contract.Errorf(momv1.Reason_REASON_STORE_UNCERTAIN, "%s, and it may or may not be stored (%s); it may be sent again", why, last.Cause)
	case h.unsure:
		err = contract.Errorf(momv1.Reason_REASON_OUTCOME_UNKNOWN, "%s, and it may or may not be stored (%s)", why, last.Cause)
	default:
		err = contract.Errorf(momv1.Reason_REASON_STORE_UNAVAILABLE, "%s, and it cannot be stored (%s); it was not executed", why, last.Cause)
	}
	contract.WriteError(w, h.req.In, err)
}
