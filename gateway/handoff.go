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

// handOff sends the call to the MOM: the same bytes, to one more endpoint of the
// route. The task's id is minted here and the hand-off repeated under it, so that
// a reply that was lost stores nothing twice. cause is nil for a call that was
// never tried.
func (p *proxy) handOff(ctx context.Context, w http.ResponseWriter, c *call, cause *upstream.Outcome) {
	route, procedure := c.target.route, c.req.In.URL.Path
	key, _ := contract.Key(c.req.Header) // a bad one is the MOM's to refuse
	id := contract.NewTaskID(route.Service, route.Shards, contract.Anonymous, procedure, key)

	req := c.req
	req.Look = false
	req.Header = c.req.Header.Clone()
	req.Header.Set(contract.HeaderTask, id.String())
	req.Header.Set(contract.HeaderCaller, contract.Anonymous)
	if cause != nil {
		req.Header.Set(contract.HeaderCause, cause.Cause)
	}

	var (
		last    *upstream.Endpoint
		stored  bool // the MOM said that it has the call
		unsure  bool // it may have it
		tries   tries
		started = time.Now()
	)
	for {
		if !c.deadline.IsZero() {
			contract.SetTimeout(req.Header, time.Until(c.deadline))
		}
		last = p.mom.Pick(last)
		holding, release := context.WithCancelCause(ctx)
		stay := context.AfterFunc(p.draining, func() { p.keep(ctx, req, release) })
		res, outcome, said, err := offer(holding, last, &req, handOffTime-time.Since(started))
		stay()
		if res != nil {
			respond(w, c, res)
			return
		}
		p.log.Debug("hand-off failed", "task", id, "endpoint", last, "cause", outcome.Cause, "error", err)
		if said {
			// It had the call and left while it held the caller: another MOM,
			// or the same one soon, may hold on, with time of its own.
			stored, started = true, time.Now()
		}
		unsure = unsure || outcome.Kind == upstream.Broken
		drained := errors.Is(context.Cause(holding), errDraining)
		release(nil)
		over := drained || outcome.Kind == upstream.DeadlineOver || outcome.Kind == upstream.CallerLeft
		if drained {
			stored, outcome.Kind = true, upstream.Answered
		}
		if over || time.Since(started) >= handOffTime {
			if refusal := notHeld(c, id, cause, outcome, stored, unsure); refusal != nil {
				writeNotHeld(w, c, id, stored, refusal)
			}
			return
		}
		tries.made++
		sleep(ctx, firstPause<<min(tries.made-1, 2))
	}
}

// errDraining ends a hold whose task is kept.
var errDraining = errors.New("the gateway is draining")

// keep ends a hold with a handle. The MOM takes a caller who leaves for one who
// wants nothing any more, so before we leave it the call is handed off again,
// under the same id and without a hold: from then on the task is kept.
func (p *proxy) keep(ctx context.Context, req upstream.Request, release context.CancelCauseFunc) {
	req.Header = req.Header.Clone()
	req.Header.Set(contract.HeaderPrefer, "wait=0")
	bounded, cancel := context.WithTimeout(ctx, handOffTime)
	defer cancel()
	res, _, err := p.mom.Pick(nil).Try(bounded, &req)
	if err != nil {
		p.log.Debug("hold not released", "task", req.Header.Get(contract.HeaderTask), "error", err)
		return // the hold goes on, as long as the drain lets it
	}
	res.Drop()
	if res.Header.Get(contract.HeaderTask) != "" {
		release(errDraining)
	}
}

// offer sends the call to one MOM. Within the given time the MOM has to say that
// it has the call, with a 103 or with its answer; after that, it may hold.
func offer(ctx context.Context, mom *upstream.Endpoint, req *upstream.Request, within time.Duration) (*upstream.Response, upstream.Outcome, bool, error) {
	var said atomic.Bool
	bounded, cancel := context.WithCancelCause(ctx)
	clock := time.AfterFunc(within, func() { cancel(upstream.ErrTryTimeout) })
	bounded = httptrace.WithClientTrace(bounded, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints && clock.Stop() {
				said.Store(true)
			}
			return nil
		},
	})
	res, outcome, err := mom.Try(bounded, req)
	clock.Stop()
	if res == nil {
		cancel(nil)
		return nil, outcome, said.Load(), err
	}
	// The context is the response's from here on; it ends with the call's.
	context.AfterFunc(ctx, func() { cancel(nil) })
	return res, outcome, true, nil
}

// notHeld is what the caller is told when no MOM answers; nil when it left.
func notHeld(c *call, id contract.TaskID, cause *upstream.Outcome, last upstream.Outcome, stored, unsure bool) *connect.Error {
	why := "the call asked to be stored"
	if cause != nil {
		why = c.target.route.Service + " cannot take the call (" + cause.Cause + ")"
	}
	switch {
	case last.Kind == upstream.CallerLeft:
		return nil
	case stored:
		return contract.Stored(&momv1.TaskHandle{Id: id.String(), State: momv1.TaskState_TASK_STATE_QUEUED})
	case unsure && c.repeatable():
		return contract.Errorf(momv1.Reason_REASON_STORE_UNCERTAIN, "%s, and it may or may not be stored (%s); it may be sent again", why, last.Cause)
	case unsure:
		return contract.Errorf(momv1.Reason_REASON_OUTCOME_UNKNOWN, "%s, and it may or may not be stored (%s)", why, last.Cause)
	}
	return contract.Errorf(momv1.Reason_REASON_STORE_UNAVAILABLE, "%s, and it cannot be stored (%s); it was not executed", why, last.Cause)
}

func writeNotHeld(w http.ResponseWriter, c *call, id contract.TaskID, stored bool, refusal *connect.Error) {
	if stored {
		grpc := strings.HasPrefix(c.req.Header.Get("Content-Type"), "application/grpc")
		for key, value := range contract.StoredHeader(id.String(), grpc) {
			w.Header().Set(key, value)
		}
	}
	contract.WriteError(w, c.req.In, refusal)
}
