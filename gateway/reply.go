package gateway

import (
	"net/http"

	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// reply is what an offer of a call to a MOM came to.
type reply uint8

const (
	theTasks   reply = iota // an answer, or a handle: it is the caller's
	refusal                 // the call is refused for what it is: this is the caller's too
	refusedNow              // not stored: the queue is full, or the store is away
	misplaced               // not stored: the queue has another number of shards
	cannotTake              // not stored: the MOM has no such route, takes no such headers or not our secret, or is none
	notReached              // not stored: the offer did not get there
	slow                    // not stored: our time was over before the offer got there

	// After each of these the call is stored, or may be.

	mayHave      // the MOM is silent, gone, or does not know
	drained      // the gateway drains, and has ended the hold
	deadlineOver // the caller's deadline has ended the offer
	callerLeft   // the caller has
)

// replyOf reads what an offer came to. Nothing that a MOM says of itself is taken for
// the task's answer: only what it marks is. What is no reply of a MOM at all, such as a
// proxy's 502, may follow an offer that was passed on.
func replyOf(res *upstream.Response, outcome upstream.Outcome) reply {
	kind, refused := outcome.Kind, ""
	if res != nil {
		refused = res.Header.Get(contract.HeaderRefused)
	}
	switch {
	case outcome.Cause == gatewayDrains:
		return drained
	case kind == upstream.CallerLeft:
		return callerLeft
	case kind == upstream.DeadlineOver:
		return deadlineOver
	case kind == upstream.NotSent && outcome.Cause == upstream.TryTimeout:
		return slow
	case kind == upstream.NotSent, kind == upstream.Refused:
		return notReached
	case res == nil && kind == upstream.Unsendable:
		return cannotTake
	case res == nil:
		return mayHave
	case res.Header.Get(contract.HeaderTask) != "":
		return theTasks
	case res.Header.Get(contract.HeaderUnsure) != "":
		return mayHave
	case refused == contract.RefusedCall:
		return refusal
	case refused == contract.RefusedNow && res.Header.Get(contract.HeaderShards) != "":
		return misplaced
	case refused == contract.RefusedNow:
		return refusedNow
	case refused == contract.RefusedSecret, kind == upstream.Unavailable, kind == upstream.Exhausted, unserved(res):
		return cannotTake
	}
	return mayHave
}

// unserved tells a response of somebody who did not look at the call: no such path,
// method, type, size or version of HTTP.
func unserved(res *upstream.Response) bool {
	const unimplemented = "12"
	switch res.StatusCode {
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return true
	}
	return res.StatusCode >= 400 && res.StatusCode < 500 || res.GRPCStatus == unimplemented
}

// known is what the gateway knows of a call that it has offered.
type known uint8

const (
	notStored   known = iota // no MOM can have it
	mayBeStored              // a MOM may have it
	isStored                 // a MOM has said that it has it, and it stays stored
)

// standing is how a hand-off stands when a reply has come.
type standing struct {
	known  known
	others bool // another MOM is left to be asked
	long   bool // it has taken as long as it may while no MOM can have the call
	over   bool // the caller has to be answered before there could be another offer
}

// action is what a reply leads to.
type action uint8

const (
	passOn     action = iota // the response is the caller's
	askOther                 // offer the call to another MOM, at once
	askAgain                 // offer it again, after a pause
	giveHandle               // tell the caller that the call is stored, and the handle
	tellUnsure               // tell the caller that the call may be stored
	tellFailed               // tell the caller that the call is not stored
	forget                   // nobody is there to be told
	askSoon                  // askAgain, unless the hand-off takes long: then giveUp
	giveUp                   // giveHandle, tellUnsure or tellFailed, by what is known
)

// follow is the table of what follows from a reply. Its columns are for a call that no MOM can have,
// while another MOM is left to be asked and after the last one; and the same for a call that a MOM
// has or may have. Only an answer under its id tells what became of the second: what another MOM
// refuses now, the first may have stored. A MOM, or a machine, that is busy is not down, so a slow
// one is asked again.
func follow(said reply, at standing) action {
	row := [...]struct{ not, notLast, may, mayLast action }{
		theTasks:     {passOn, passOn, passOn, passOn},
		refusal:      {passOn, passOn, passOn, passOn},
		refusedNow:   {askOther, passOn, askOther, askAgain},
		misplaced:    {askSoon, askSoon, askAgain, askAgain},
		cannotTake:   {askOther, giveUp, askOther, askAgain},
		notReached:   {askSoon, askSoon, askAgain, askAgain},
		slow:         {askAgain, askAgain, askAgain, askAgain},
		mayHave:      {askAgain, askAgain, askAgain, askAgain},
		drained:      {giveUp, giveUp, giveUp, giveUp},
		deadlineOver: {giveUp, giveUp, giveUp, giveUp},
		callerLeft:   {forget, forget, forget, forget},
	}[said]
	if at.known == notStored {
		row.may, row.mayLast = row.not, row.notLast
	}
	next := row.mayLast
	if at.others {
		next = row.may
	}
	if at.over && (next == askOther || next == askAgain) || next == askSoon && (at.long || at.over) {
		next = giveUp
	}
	switch next {
	case askSoon:
		return askAgain
	case giveUp:
		return [...]action{notStored: tellFailed, mayBeStored: tellUnsure, isStored: giveHandle}[at.known]
	}
	return next
}
