package gateway

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

const (
	// handOffTime is how long a MOM may take to say that it has a call. It is also how long we go on asking while
	// surely no MOM has the call. The rest of half a second is for the answer.
	handOffTime = 450 * time.Millisecond
	// lastOffers is how long calls are offered when the gateway ends. Soon after that the server cuts its connections.
	lastOffers = 2 * handOffTime
	// certainty is how long a caller who is not held waits to learn whether its call
	// is stored, while a MOM may have it.
	certainty = 5 * time.Second
	// lostTime is how long a stored task surely waits after the MOM has lost its hold. The MOM's grace is
	// longer.
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
	proxy *proxy
	call  *call
	id    contract.TaskID
	// prefer is what the MOM is asked for: what the caller asks for, unless too many are held.
	prefer contract.Preference
	// kept: the task outlives its caller, who has asked for a handle or has a key.
	kept bool
	// until is when the caller is answered, whatever the MOMs do.
	until  time.Time
	offers int64
	// stored is what a MOM has said that has the call: the key may name another task than ours.
	stored receipt
	// holder is the MOM that said so. lost is when the connection to it was lost while it held the caller;
	// zero when that did not happen, or when the MOM has died since.
	holder *upstream.Endpoint
	lost   time.Time
	unsure bool     // a MOM may have it
	former []string // ids under which it was offered before, with other shards
}

// handOff sends the call to the MOM.
func (p *proxy) handOff(ctx context.Context, c *call) verdict {
	why, h := unreadable(&c.req, c.method), p.newHandOff(c)
	if why != "" {
		return h.unreadable(why)
	}
	return h.run(ctx)
}

// newHandOff prepares the offers of a call. It has a function of its own, and so has what is rare, since callers may be held by the thousand while handOff runs:
// what it keeps on the stack counts.
func (p *proxy) newHandOff(c *call) *handOff {
	h, began := &handOff{proxy: p, call: c, prefer: c.prefer}, time.Now()
	if first := c.offered; first != nil {
		h.id, began = first.id, first.Came
	} else {
		h.id = c.target.newTaskID(c.req.URL.Path, c.key)
	}
	if c.tries != nil && !c.tries.last.Ours() { // else it tells nothing of the service
		p.handedOff(c)
	}
	if h.prefer.Hold() > 0 && !c.held {
		if c.held = true; !p.hold(c.target) {
			h.prefer = contract.Preference{Async: h.prefer.Async, HasWait: true}
		}
	}
	h.kept = c.key != "" || h.prefer.Async || h.prefer.Hold() == 0
	h.until = answerBy(began, h.prefer.Hold(), c.deadline)
	if kind := upstream.MediaType(c.req.Header); c.req.Method != http.MethodGet && !slices.Equal(c.req.Header["Content-Type"], []string{kind}) {
		c.req.Header = maps.Clone(c.req.Header) // the last attempt may still read it
		c.req.Header.Set("Content-Type", kind)  // without parameters that say nothing to a MOM
	}
	return h
}

// unreadable is the verdict on a call whose message no MOM reads.
func (h *handOff) unreadable(why string) verdict {
	return h.failed(momv1.Reason_REASON_CALL_NOT_STORABLE, notStorable, "it cannot be stored: %s; %s", why, h.advice())
}

// hold counts a caller who is to be held at a MOM, until release is called; false when there are too many.
func (p *proxy) hold(t *target) bool {
	t.held.Add(1)
	if p.held.Add(1) > p.maxHeld {
		p.once.Warn("held", "limit of held callers reached; one more gets its handle at once", "limit", p.maxHeld, "raise", "--max-held")
		return false
	}
	return true
}

func (p *proxy) release(t *target) {
	t.held.Add(-1)
	p.held.Add(-1)
}

// answerBy is the latest time at which a caller hears from us, by when its hand-off began and how long it is held. It is after
// the MOM's own time for it, and before the caller's deadline, which is zero if there is none.
func answerBy(began time.Time, hold time.Duration, deadline time.Time) time.Time {
	wait := hold + holdSlack
	if hold == 0 {
		wait = certainty
	}
	if !deadline.IsZero() {
		left := deadline.Sub(began)
		wait = min(wait, max(left-contract.HandleMargin(left)/2, left/2))
	}
	return began.Add(wait)
}

// run offers the call until a MOM answers, or the caller's time for it is over.
func (h *handOff) run(ctx context.Context) verdict {
	var mom *upstream.Endpoint
	began, others, patience := time.Now(), h.proxy.mom.Len()-1, handOffTime
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		within := patience
		if first := h.call.offered; first != nil {
			mom, began = first.Endpoint(), first.Came
			within -= time.Since(began)
		} else {
			mom = h.proxy.mom.Pick(mom)
		}
		res, outcome, taken := h.offer(ctx, mom, within)
		said := replyOf(res, outcome)
		next := follow(said, standing{
			known:  h.learn(mom, said, outcome, taken),
			others: others > 0,
			long:   time.Since(began) >= handOffTime,
			over:   h.left() <= pause,
		})
		if next == passOn {
			res.Header.Del(contract.HeaderRefused)
			if said == theTasks {
				h.tellApplied(res.Header)
				return verdict{end: endStored, decided: decidedStore, res: res}
			}
			return verdict{end: endFailed, decided: decidedFail, res: res}
		}
		if said == misplaced {
			h.place(res.Header.Get(contract.HeaderShards))
		}
		res.Drop()
		switch next {
		case askOther:
			others--
		case askAgain:
			if said == mayHave || said == slow { // a busy MOM gets more time instead of more offers
				patience = min(2*patience, contract.MaxHold)
			}
			sleep(ctx, pauseAfter(time.Since(began), pause))
		default:
			return h.giveUp(next, outcome)
		}
	}
}

// tellApplied says which preferences of the caller's were followed, if the MOM has read others: all offers but the first one tell what is
// left of the hold, and so does one where too many are held.
func (h *handOff) tellApplied(header http.Header) {
	switch asked := h.call.prefer.Applied(); {
	case h.offers <= 1 && h.prefer == h.call.prefer:
	case asked == "":
		header.Del(contract.HeaderApplied)
	case h.prefer == h.call.prefer:
		header.Set(contract.HeaderApplied, asked)
	}
}

// pauseAfter is a pause that does not pass over the end of handOffTime: then comes the last offer of a call that surely no MOM has.
func pauseAfter(took, pause time.Duration) time.Duration {
	if left := handOffTime - took; left > 0 {
		return min(pause, left)
	}
	return pause
}

// learn takes note of what an offer to a MOM came to, and returns what is known of the call now.
// A MOM that has lost a hold cancels the task after a grace. What was stored counts as stored only while enough of that
// grace is left for our word to keep the task. A gateway that drains may have no time for its word: so it must have been taken, unless the hold
// has lasted to its end, after which a MOM cancels nothing.
func (h *handOff) learn(mom *upstream.Endpoint, said reply, outcome upstream.Outcome, taken receipt) known {
	if taken.id != "" {
		h.stored, h.holder, h.lost = taken, mom, time.Time{}
	}
	switch {
	case taken.id != "" && outcome.Kind == upstream.Broken && outcome.Cause != upstream.TryTimeout && outcome.Cause != upstream.Silent:
		h.lost = time.Now() // a MOM that lives has lost the hold too; a silent one notices later
	case mom == h.holder && outcome.Cause == upstream.DialRefused:
		h.lost = time.Time{} // it is dead, and has forgotten the hold
	}
	h.unsure = h.unsure || said >= mayHave
	stays := h.lost.IsZero() || time.Since(h.lost) < lostTime
	if h.proxy.draining.Err() != nil {
		stays = said == drained || h.lost.IsZero() && !time.Now().Before(h.until)
	}
	switch {
	case h.stored.id != "" && (h.kept || stays):
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
	h.call.target.learnShards(n)
	placed := h.id.Placed(n, contract.Anonymous, h.call.req.URL.Path, h.call.key)
	if placed != h.id {
		h.former = append(h.former, h.id.String())
		h.id = placed
	}
}

// abandon says that the caller left, in whichever shard its task is.
func (h *handOff) abandon() {
	if h.kept {
		return
	}
	ids := append([]string{h.id.String()}, h.former...)
	if id := h.stored.id; id != "" && !slices.Contains(ids, id) {
		ids = append(ids, id)
	}
	for _, id := range ids {
		h.proxy.words.abandon.add(id, nil)
	}
}

// giveUp ends a hand-off without a MOM's answer.
func (h *handOff) giveUp(next action, last upstream.Outcome) verdict {
	switch {
	case next == forget:
		h.abandon()
		return verdict{end: endLeft}
	case next == giveHandle:
		return h.handle(last)
	case next == tellUnsure && h.call.repeatable():
		return h.failed(momv1.Reason_REASON_STORE_UNCERTAIN, last.Cause, "it may or may not be stored (%s); it may be sent again", last.Cause)
	case next == tellUnsure:
		return h.failed(momv1.Reason_REASON_OUTCOME_UNKNOWN, last.Cause, "it may or may not be stored (%s)", last.Cause)
	case last.Cause == upstream.HeadersTooLarge, last.Cause == "http-431":
		reason := momv1.Reason_REASON_CALL_NOT_STORABLE
		if h.call.tries == nil { // the call asked to be stored, and will not be smaller another time
			reason = momv1.Reason_REASON_HEADERS_TOO_LARGE
		}
		return h.failed(reason, last.Cause, "it cannot be stored: it has %d bytes of headers, more than the MOM takes; %s", upstream.HeaderBytes(h.header(h.says(nil))), h.advice())
	}
	return h.failed(momv1.Reason_REASON_STORE_UNAVAILABLE, last.Cause, "it cannot be stored (%s); %s", last.Cause, h.advice())
}

// failed is the verdict on a call that is not stored, or of which nobody knows whether it is. The
// text says so, after why the call was to be stored.
func (h *handOff) failed(reason momv1.Reason, cause, format string, args ...any) verdict {
	before := ""
	if h.call.tries != nil {
		before = h.call.tries.last.Cause
	}
	err := contract.Errorf(reason, "%s, and "+format, append([]any{contract.WhyStored(h.call.target.service, before)}, args...)...)
	return verdict{end: endFailed, decided: decidedFail, err: err, cause: cause, facts: []any{"task", h.id}}
}

// handle is the verdict on a call that is stored, and that no MOM holds any more.
func (h *handOff) handle(last upstream.Outcome) verdict {
	if !h.kept && last.Cause != gatewayDrains { // in these two cases the task is kept already
		h.proxy.words.keep.add(h.stored.id, nil)
	}
	v := verdict{end: endStored, decided: decidedStore, err: contract.Stored(h.stored.handle()), header: http.Header{}, cause: last.Cause, facts: []any{"task", h.id}}
	grpc := upstream.IsGRPC(h.call.req.Header)
	for key, value := range contract.StoredHeader(h.stored.id, grpc) {
		v.header.Set(key, value)
		if grpc { // some clients look for it, and show it, only in the trailers
			v.header.Set(http.TrailerPrefix+key, value)
		}
	}
	return v
}
