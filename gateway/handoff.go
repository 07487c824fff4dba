package gateway

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

const (
	// handOffTime is how long a MOM has to say that it has a call, and how long MOMs
	// are tried that surely have not got it. What is left of half a second goes to the
	// answer.
	handOffTime = 450 * time.Millisecond
	// certainty is how long a caller who is not held waits to learn whether its call
	// is stored, while a MOM may have it.
	certainty = 5 * time.Second
	// lostTime is for how long a task that a MOM has stored surely waits after its hold was
	// lost; the MOM's grace is longer.
	lostTime = 2 * time.Second
	// holdSlack is how much longer than its caller allows a hold may take: the MOM
	// ends it, and this is the time for its handle to come.
	holdSlack = 200 * time.Millisecond
)

// handOff is one call on its way to the MOM: the same bytes, to one more endpoint
// of the route. The task's ULID is minted here and the call is offered again under
// it, so that a reply that was lost stores nothing twice. The shard is the MOM's to
// say.
type handOff struct {
	*proxy
	*call
	id     contract.TaskID
	key    string            // the call's own
	cause  *upstream.Outcome // of the direct try; nil for a call that had none
	header http.Header       // of each offer
	// kept: the task outlives its caller, who has asked for a handle or has a key.
	kept bool
	// until is when the caller is answered, whatever the MOMs do.
	until  time.Time
	offers int64
	// stored is the handle of the task as a MOM named it that has the call: the key may
	// name another task than ours.
	stored *momv1.TaskHandle
	// holder is the MOM that said so, and lost is when it was lost while it held the caller;
	// zero when it was not, or when it has died since.
	holder *upstream.Endpoint
	lost   time.Time
	unsure bool     // one may have it
	former []string // ids under which it was offered before, with other shards
}

// handOff sends the call to the MOM and answers the caller, after explain has been
// told whether it is stored.
func (p *proxy) handOff(ctx context.Context, w http.ResponseWriter, c *call, cause *upstream.Outcome, explain func(step)) {
	key, _ := contract.Key(c.req.Header) // judged before
	h := &handOff{
		proxy: p, call: c, cause: cause, header: c.req.Header.Clone(),
		key: key,
	}
	h.id = contract.NewTaskID(c.target.route.Service, c.target.shards(), contract.Anonymous, c.req.In.URL.Path, key)
	h.header.Set(contract.HeaderTask, h.id.String())
	h.header.Set(contract.HeaderCaller, contract.Anonymous)
	if c.json() {
		h.header.Set(contract.HeaderSchema, c.target.schema)
	}
	if cause != nil {
		h.header.Set(contract.HeaderCause, cause.Cause)
		p.handedOff(c, cause.Cause)
	}
	prefer := contract.Prefer(h.header)
	if prefer.Hold() > 0 {
		defer p.held.Add(-1)
		defer c.target.held.Add(-1)
		c.target.held.Add(1)
		if p.held.Add(1) > p.maxHeld {
			p.once.Warn("held", "limit of held callers reached; one more gets its handle at once", "limit", p.maxHeld, "raise", "--max-held")
			prefer = contract.Preference{Async: prefer.Async, HasWait: true}
			h.header.Set(contract.HeaderPrefer, prefer.Applied())
		}
	}
	h.kept = key != "" || prefer.Async || prefer.Hold() == 0
	h.until = c.answerBy(time.Now(), prefer.Hold())
	if h.offerable(w, explain) {
		h.run(ctx, w, explain)
	}
}

// answerBy is when the caller of a call that is held for so long hears from us at
// the latest. It is after the MOM's own time for it, and before the caller's deadline.
func (c *call) answerBy(now time.Time, hold time.Duration) time.Time {
	wait := hold + holdSlack
	if hold == 0 {
		wait = certainty
	}
	if !c.deadline.IsZero() {
		left := c.deadline.Sub(now)
		wait = min(wait, max(left-contract.HandleMargin(left)/2, left/2))
	}
	return now.Add(wait)
}

// run offers the call until a MOM answers, or the caller's time for it is over.
func (h *handOff) run(ctx context.Context, w http.ResponseWriter, explain func(step)) {
	var mom *upstream.Endpoint
	began, others, patience := time.Now(), h.mom.Len()-1, handOffTime
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		mom = h.mom.Pick(mom)
		res, outcome, handle := h.offer(ctx, mom, patience)
		said := replyOf(res, outcome)
		next := follow(said, standing{
			known:  h.learn(mom, said, outcome, handle),
			others: others > 0,
			long:   time.Since(began) >= handOffTime,
			over:   !time.Now().Add(pause).Before(h.until),
		})
		if next == passOn {
			res.Header.Del(contract.HeaderRefused)
			explain(storedOrFailed(said == theTasks))
			respond(w, h.call, res, func(bool) {}) // what a MOM breaks off is no fault of the service
			return
		}
		if said == misplaced {
			h.place(res.Header.Get(contract.HeaderShards))
		}
		res.Drop()
		switch next {
		case askOther:
			others--
		case askAgain:
			if said == mayHave || said == slow { // it gets more time, not more work
				patience = min(2*patience, contract.MaxHold)
			}
			sleep(ctx, pause)
		case forget:
			h.abandon()
			leave()
		default:
			explain(storedOrFailed(next == giveHandle))
			h.giveUp(w, next, outcome)
			return
		}
	}
}

// learn takes note of what an offer to a MOM came to, and returns what is known of the call now.
// A MOM that has lost a hold cancels the task after a grace, of which enough must be left for our
// word to overtake it: what was stored may no longer be.
func (h *handOff) learn(mom *upstream.Endpoint, said reply, outcome upstream.Outcome, handle *momv1.TaskHandle) known {
	if handle != nil {
		h.stored, h.holder, h.lost = handle, mom, time.Time{}
	}
	switch {
	case handle != nil && outcome.Kind == upstream.Broken && outcome.Cause != upstream.TryTimeout && outcome.Cause != upstream.Silent:
		h.lost = time.Now() // by the MOM too, if it lives: a silent one hears of it later
	case mom == h.holder && outcome.Cause == upstream.DialRefused:
		h.lost = time.Time{} // it is dead, and has forgotten the hold
	}
	h.unsure = h.unsure || said >= mayHave
	switch {
	case h.stored != nil && (h.kept || h.lost.IsZero() || time.Since(h.lost) < lostTime):
		return isStored
	case h.unsure:
		return mayBeStored
	}
	return notStored
}

// place puts the call among as many shards as a MOM has said, with the same ULID.
func (h *handOff) place(shards string) {
	n, err := strconv.Atoi(shards)
	if err != nil || n < 1 || n > route.MaxShards {
		return
	}
	h.target.learnShards(n)
	placed := h.id.Placed(n, contract.Anonymous, h.req.In.URL.Path, h.key)
	if placed != h.id {
		h.former = append(h.former, h.id.String())
		h.id = placed
		h.header.Set(contract.HeaderTask, h.id.String())
	}
}

// abandon says that the caller left, in whichever shard its task is.
func (h *handOff) abandon() {
	if h.kept {
		return
	}
	ids := []string{h.id.String()}
	if h.stored != nil && h.stored.GetId() != ids[0] {
		ids = append(ids, h.stored.GetId())
	}
	for _, id := range append(ids, h.former...) {
		h.words.abandon.add(id, nil)
	}
}

func storedOrFailed(stored bool) step {
	if stored {
		return store
	}
	return fail
}

// giveUp answers a caller whom no MOM holds: with the handle of its call, or with why there is none.
func (h *handOff) giveUp(w http.ResponseWriter, next action, last upstream.Outcome) {
	why := h.why()
	var err *connect.Error
	switch {
	case next == giveHandle:
		if !h.kept && last.Cause != gatewayDrains { // else it is kept already
			h.words.keep.add(h.stored.GetId(), nil)
		}
		err = contract.Stored(h.stored)
		grpc := isGRPC(h.header)
		for key, value := range contract.StoredHeader(h.stored.GetId(), grpc) {
			w.Header().Set(key, value)
			if grpc { // clients may look for it, and show it, in the trailers alone
				w.Header().Set(http.TrailerPrefix+key, value)
			}
		}
	case next == tellUnsure && h.repeatable():
		err = contract.Errorf(momv1.Reason_REASON_STORE_UNCERTAIN, "%s, and it may or may not be stored (%s); it may be sent again", why, last.Cause)
	case next == tellUnsure:
		err = contract.Errorf(momv1.Reason_REASON_OUTCOME_UNKNOWN, "%s, and it may or may not be stored (%s)", why, last.Cause)
	case tooManyHeaders(last):
		reason := momv1.Reason_REASON_CALL_NOT_STORABLE
		if h.cause == nil { // another time is no better
			reason = momv1.Reason_REASON_HEADERS_TOO_LARGE
		}
		err = contract.Errorf(reason, "%s, and it cannot be stored: it has %d bytes of headers, more than the MOM takes; %s",
			why, upstream.HeaderBytes(h.header), h.then())
	default:
		err = contract.Errorf(momv1.Reason_REASON_STORE_UNAVAILABLE, "%s, and it cannot be stored (%s); %s", why, last.Cause, h.then())
	}
	h.refuse(w, h.call, err, last.Cause, "task", h.id)
}
