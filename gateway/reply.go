package gateway

import (
	"net/http"

	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// reply is the result of offering a call to a MOM.
type reply uint8

const (
	theTasks   reply = iota // an answer or a handle of the task: it goes to the caller
	refusal                 // the MOM refuses the call for its content: this goes to the caller, too
	refusedNow              // not stored: the queue is full, or the store is away
	misplaced               // not stored: the queue has another number of shards
	cannotTake              // not stored: the MOM has no such route, refuses the headers or our secret, or is no MOM
	notReached              // not stored: the offer did not reach the MOM
	slow                    // not stored: our time was over before the offer reached the MOM

	// After each of these the call is stored, or may be.

	mayHave      // the MOM is silent or gone, or does not know whether it has the call
	drained      // the gateway drains, and has ended the hold
	deadlineOver // the caller's deadline has ended the offer
	callerLeft   // the caller has left
)

// replyOf classifies the result of an offer. Only a response that the MOM has marked counts as
// the task's answer; a MOM's own errors never do. A response that comes from no MOM, such as a
// proxy's 502, may come although the proxy has passed the offer on to a MOM.
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

// unserved tells whether a response comes from a server that did not look at the call: it has no such path,
// or refuses the method, the type, the size or the version of HTTP.
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

// standing is the state of a hand-off when a reply has come.
type standing struct {
	known  known
	others bool // another MOM is left to be asked
	long   bool // the hand-off has taken as long as it may while no MOM can have the call
	over   bool // the caller must get an answer before there could be another offer
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
	forget                   // the caller has left, so there is no answer
	askSoon                  // askAgain, unless the hand-off takes long: then giveUp
	giveUp                   // giveHandle, tellUnsure or tellFailed, by what is known
)

// follow is the table of the next action after a reply. The first two columns are for a call that no MOM can have:
// while another MOM is left to be asked, and after the last MOM. The other two are the same for a call that a MOM
// has or may have. Only an answer under its id shows what became of such a call: if another MOM
// refuses it now, the first MOM may still have stored it. A busy MOM, or a busy machine, is not down, so a slow
// MOM is asked again.
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
