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
	// handOffTime is how long a MOM may take to report that it has a call. It is also how long we go on offering while
	// surely no MOM has the call. The rest of half a second is for our answer to the caller.
	handOffTime = 450 * time.Millisecond
	// lastOffers is how long calls are offered when the gateway ends. Soon after that the server cuts its connections.
	lastOffers = 2 * handOffTime
	// certainty is how long a caller who is not held waits to learn whether its call
	// is stored, while a MOM may have it.
	certainty = 5 * time.Second
	// lostTime is how long a stored task surely still exists after the MOM has lost its hold. The MOM cancels the task only
	// after a longer grace.
	lostTime = 2 * time.Second
	// holdSlack is how much longer a hold may take than its caller allows. The MOM
	// ends the hold, and its handle needs this time to arrive.
	holdSlack = 200 * time.Millisecond
)

// handOff is one call on its way to the MOM: the same bytes, to one more endpoint
// of the route. The gateway mints the task's ULID, and offers the call again under the
// same ULID, so that a lost reply stores nothing twice. The MOM decides the
// shard.
type handOff struct {
	proxy *proxy
	call  *call
	id    contract.TaskID
	// prefer is the preference that the MOM gets: the caller's own, unless too many callers are held.
	prefer contract.Preference
	// kept: the task outlives its caller, who has asked for a handle or has a key.
	kept bool
	// until is the time at which the caller gets an answer at the latest, whatever the MOMs do.
	until  time.Time
	offers int64
	// stored is the receipt of a MOM that has the call. The key may belong to an older task, so its id may differ from ours.
	stored receipt
	// holder is the MOM that sent the receipt. lost is when the connection to it was lost while it held the caller;
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

// newHandOff prepares the offers of a call. It is a function of its own, and so are the rare cases, to keep the stack of handOff small: thousands of
// callers may be held while handOff runs.
func (p *proxy) newHandOff(c *call) *handOff {
	h, began := &handOff{proxy: p, call: c, prefer: c.prefer}, time.Now()
	if first := c.offered; first != nil {
		h.id, began = first.id, first.Came
	} else {
		h.id = c.target.newTaskID(c.req.URL.Path, c.key)
	}
	if c.tries != nil && !c.tries.last.Ours() { // otherwise the outcome shows nothing about the service
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
		c.req.Header.Set("Content-Type", kind)  // without parameters, which a MOM does not need
	}
	return h
}

// unreadable is the verdict on a call whose message no MOM can read.
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

// answerBy is the latest time at which we answer a caller. began is the beginning of its hand-off, and hold is how long the caller is held. The time is later than
// the time at which the MOM answers, and before the caller's deadline; deadline is zero if there is none.
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

// tellApplied writes the caller's preferences that were followed into the header, if the MOM got other preferences: every offer but the first one has
// what is left of the hold, and an offer made while too many callers are held has no hold.
func (h *handOff) tellApplied(header http.Header) {
	switch asked := h.call.prefer.Applied(); {
	case h.offers <= 1 && h.prefer == h.call.prefer:
	case asked == "":
		header.Del(contract.HeaderApplied)
	case h.prefer == h.call.prefer:
		header.Set(contract.HeaderApplied, asked)
	}
}

// pauseAfter shortens a pause so that it ends at handOffTime at the latest: at that time comes the last offer of a call that surely no MOM has.
func pauseAfter(took, pause time.Duration) time.Duration {
	if left := handOffTime - took; left > 0 {
		return min(pause, left)
	}
	return pause
}

// learn records the result of an offer to a MOM, and returns what is now known about the call.
// A MOM that has lost a hold cancels the task after a grace. So a stored call counts as stored only while enough of that
// grace is left for our request to keep the task. A gateway that drains may have no time for that request. So a MOM must have taken the request already, unless the hold
// has lasted to its end, after which a MOM cancels nothing.
func (h *handOff) learn(mom *upstream.Endpoint, said reply, outcome upstream.Outcome, taken receipt) known {
	if taken.id != "" {
		h.stored, h.holder, h.lost = taken, mom, time.Time{}
	}
	switch {
	case taken.id != "" && outcome.Kind == upstream.Broken && outcome.Cause != upstream.TryTimeout && outcome.Cause != upstream.Silent:
		h.lost = time.Now() // a MOM that lives has noticed the lost hold, too; a silent MOM notices it later
	case mom == h.holder && outcome.Cause == upstream.DialRefused:
		h.lost = time.Time{} // the MOM is dead, and has forgotten the hold
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

// place gives the task the shard that follows from the number of shards that a MOM has named. The ULID stays the same.
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

// abandon reports to the MOMs that the caller has left, under each id that the task may have.
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

// failed is the verdict on a call that is not stored, or that may or may not be stored. The error's
// text begins with the reason why the call was to be stored.
func (h *handOff) failed(reason momv1.Reason, cause, format string, args ...any) verdict {
	before := ""
	if h.call.tries != nil {
		before = h.call.tries.last.Cause
	}
	err := contract.Errorf(reason, "%s, and "+format, append([]any{contract.WhyStored(h.call.target.service, before)}, args...)...)
	return verdict{end: endFailed, decided: decidedFail, err: err, cause: cause, facts: []any{"task", h.id}}
}

// handle is the verdict on a call that is stored, and whose caller no MOM holds any more.
func (h *handOff) handle(last upstream.Outcome) verdict {
	if !h.kept && last.Cause != gatewayDrains { // otherwise the task is kept already
		h.proxy.words.keep.add(h.stored.id, nil)
	}
	v := verdict{end: endStored, decided: decidedStore, err: contract.Stored(h.stored.handle()), header: http.Header{}, cause: last.Cause, facts: []any{"task", h.id}}
	grpc := upstream.IsGRPC(h.call.req.Header)
	for key, value := range contract.StoredHeader(h.stored.id, grpc) {
		v.header.Set(key, value)
		if grpc { // some clients look for these headers, and show them, only in the trailers
			v.header.Set(http.TrailerPrefix+key, value)
		}
	}
	return v
}
