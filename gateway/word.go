package gateway

import (
	"net/http"

	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// word is what a MOM said to an offer of a call, or its silence.
type word uint8

const (
	theTasks   word = iota // an answer, or a handle: it is the caller's
	refusal                // the call is refused for what it is: the caller's too
	refusedNow             // not stored: the queue is full, or the store is away
	misplaced              // not stored: the queue has another number of shards
	cannotTake             // not stored: the MOM has no such route, takes no such headers or not our secret, or is none
	notReached             // not stored: the offer did not get there
	slow                   // not stored: our time was over before the offer got there
	mayHave                // it is stored, or may be: the MOM is silent, gone, or does not know
)

// wordOf reads what an offer came to. Nothing that a MOM says of itself is taken for
// the task's word: only what it marks is. What is no word of a MOM at all, such as a
// proxy's 502, may follow an offer that was passed on.
func wordOf(res *upstream.Response, outcome upstream.Outcome) word {
	switch {
	case res == nil && outcome.Kind == upstream.NotSent && outcome.Cause == upstream.TryTimeout:
		return slow
	case res == nil && (outcome.Kind == upstream.NotSent || outcome.Kind == upstream.Refused):
		return notReached
	case res == nil && outcome.Kind == upstream.Unsendable:
		return cannotTake
	case res == nil:
		return mayHave
	case res.Header.Get(contract.HeaderTask) != "":
		return theTasks
	case res.Header.Get(contract.HeaderUnsure) != "":
		return mayHave
	case res.Header.Get(contract.HeaderRefused) == contract.RefusedCall:
		return refusal
	case res.Header.Get(contract.HeaderRefused) == contract.RefusedNow && res.Header.Get(contract.HeaderShards) != "":
		return misplaced
	case res.Header.Get(contract.HeaderRefused) == contract.RefusedNow:
		return refusedNow
	case refusesSecret(res), outcome.Kind == upstream.Unavailable, outcome.Kind == upstream.Exhausted, unserved(res):
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

// then is what follows from a word.
type then uint8

const (
	passOn   then = iota // the response is the caller's
	askOther             // offer the call to another MOM, at once
	askAgain             // offer it again, as long as the caller waits
	hurry                // offer it again, as long as a hand-off may take
	giveUp               // tell the caller what is known
)

// follow is the table of what follows from a word, by whether another MOM is left to
// be asked and whether the call is surely not stored so far. Where it may be stored
// only an answer under its id ends the question: what another MOM refuses now, the
// first may have. A MOM, or a machine, that is busy is not down.
func follow(said word, others, sure bool) then {
	switch said {
	case theTasks, refusal:
		return passOn
	case refusedNow, cannotTake:
		switch {
		case others:
			return askOther
		case !sure:
			return askAgain
		case said == refusedNow:
			return passOn
		}
		return giveUp
	case notReached, misplaced:
		if sure {
			return hurry
		}
	}
	return askAgain
}
