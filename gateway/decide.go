package gateway

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"time"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// Limits of the tries of one call.
const (
	maxTries   = 3
	firstPause = 25 * time.Millisecond // doubled for each further try, with full jitter
	maxPause   = 250 * time.Millisecond
)

// step is what an outcome leads to.
type step uint8

const (
	pass  step = iota // the response goes to the caller as it is
	retry             // again after a pause, as often as maxTries allows; then store
	other             // again at another endpoint, if there is one; then store
	free              // again at once, the first time for free; then other
	once              // again if the service names a time, and that is soon; then pass
	store             // hand off to the MOM; fail where that is not possible
	fail              // the gateway answers with an error of its own
	stop              // the caller has left, so there is no answer
)

// final returns what to do instead of a step when no tries are left.
func (s step) final() step {
	switch s {
	case retry, other, free:
		return store
	case once:
		return pass
	}
	return s
}

// tries counts the tries of one call at its service.
type tries struct {
	made   int // the free one is not counted
	freed  bool
	budget *budget
	last   upstream.Outcome // of the last try, or the reason why there was none
	err    error            // of the last try, for the log
	bridge string           // the protocol of the last try, if it went across the bridge
}

// again tells whether there is another try, and how long to wait before it.
func (t *tries) again(next step, res *upstream.Response, endpoints int) (wait time.Duration, ok bool) {
	if next == free && !t.freed {
		t.freed = true
		return 0, true
	}
	t.made++
	switch next {
	case retry:
		most := min(firstPause<<(t.made-1), maxPause)
		wait, ok = rand.N(most)+1, true
	case other, free:
		// Nothing was sent, so these tries add no load and need no budget: all calls under way when an endpoint goes away may try another endpoint.
		return 0, t.made < min(endpoints, maxTries)
	case once:
		wait, ok = retryAfter(res)
		ok = ok && t.made == 1
	}
	return wait, ok && t.made < maxTries && t.budget.spend()
}

// counts tells whether the breaker counts an outcome as a failure of the service.
func counts(kind upstream.Kind) bool {
	switch kind {
	case upstream.NotSent, upstream.Broken, upstream.Bare, upstream.Unavailable:
		return true
	}
	return false
}

// mayHaveRun tells whether the service may have executed a call whose attempt had this outcome.
func mayHaveRun(kind upstream.Kind) bool {
	switch kind {
	case upstream.NotSent, upstream.Refused, upstream.Unsendable:
		return false
	}
	return true
}

// decide is the table of the next step after an outcome. It has columns for repeatable methods and
// for undeclared methods; for messages larger than the replay buffer, which are sent once; and
// for streams and methods without a schema, of which only the first bytes are kept.
func decide(kind upstream.Kind, c *call) step {
	steps := [...]struct{ repeatable, undeclared, large, stream step }{
		upstream.Answered:     {pass, pass, pass, pass},
		upstream.NotSent:      {other, other, fail, other},
		upstream.Refused:      {free, free, fail, free},
		upstream.Broken:       {retry, fail, fail, fail},
		upstream.Bare:         {retry, fail, fail, fail},
		upstream.Unavailable:  {retry, pass, pass, pass},
		upstream.Exhausted:    {once, pass, pass, pass},
		upstream.DeadlineOver: {fail, fail, fail, fail},
		upstream.CallerLeft:   {stop, stop, stop, stop},
		upstream.Unsendable:   {fail, fail, fail, fail},
	}[kind]
	switch {
	case !c.unary():
		return steps.stream
	case !c.replayable():
		return steps.large
	case c.method.Repeatable:
		return steps.repeatable
	}
	return steps.undeclared
}

// failure is the error for a call that is not stored. We promise that `unavailable`
// means that sending the call again is safe, so only calls that
// did not run or may run twice get it. notStored is the reason why the call is not stored, if its caller may expect that it is.
func failure(outcome upstream.Outcome, c *call, notStored string) *connect.Error {
	service := c.target.service
	switch {
	case outcome.Kind == upstream.DeadlineOver:
		return connect.Errorf(connect.CodeDeadlineExceeded, "%s did not answer in the time that the caller gave", service)
	case outcome.Kind == upstream.Unsendable && !c.ran:
		return unsendable(outcome.Cause, c)
	case outcome.Cause == secretRefused:
		return contract.Errorf(momv1.Reason_REASON_STORE_UNAVAILABLE,
			"the gateway and its MOM do not have the same secret (%s); the call was not executed", outcome.Cause)
	case !c.ran && notStored != "":
		return contract.Errorf(momv1.Reason_REASON_SERVICE_UNAVAILABLE,
			"%s has not taken the call (%s), and %s; the call was not executed", service, outcome.Cause, notStored)
	case !c.ran && !c.target.stores: // a call to the MOM itself: "the call was not executed" would be taken for the call of the task
		return contract.Errorf(momv1.Reason_REASON_SERVICE_UNAVAILABLE,
			"%s has not taken the call (%s); nothing was asked of it: try again", service, outcome.Cause)
	case !c.ran:
		return contract.Errorf(momv1.Reason_REASON_SERVICE_UNAVAILABLE,
			"%s has not taken the call (%s); the call was not executed", service, outcome.Cause)
	case c.repeatable():
		return contract.Errorf(momv1.Reason_REASON_SERVICE_UNAVAILABLE,
			"%s did not answer (%s); the call may be sent again", service, outcome.Cause)
	}
	return contract.Errorf(momv1.Reason_REASON_OUTCOME_UNKNOWN,
		"%s did not answer (%s); the call may have been executed", service, outcome.Cause)
}

// unsendable is for a call that no endpoint takes as it is: for its headers, or its protocol.
func unsendable(cause string, c *call) *connect.Error {
	switch cause {
	case bridge.BadMessage:
		var err *connect.Error
		if errors.As(c.tries.err, &err) {
			return err
		}
	case upstream.NeedsHTTP2, upstream.UnknownProtocol:
		mediaType, compression := c.req.Written()
		if c.untold && cause == upstream.UnknownProtocol {
			return untold(c)
		}
		if c.method == nil && cause == upstream.UnknownProtocol {
			return contract.Errorf(momv1.Reason_REASON_PROTOCOL_UNSUPPORTED,
				"%s does not understand calls of the type %s, and no schema has the method %s, so that they cannot be translated. The call was not executed",
				c.target.service, mediaType, c.req.URL.Path)
		}
		if c.unary() && !c.replayable() && cause == upstream.UnknownProtocol {
			return contract.Errorf(momv1.Reason_REASON_PROTOCOL_UNSUPPORTED,
				"%s does not understand calls of the type %s, and a message of more than %d bytes is not translated. The call was not executed",
				c.target.service, mediaType, maxReplay)
		}
		_, crosses := c.crosses(true) // then the other protocols were tried, too
		return contract.NotUnderstood(c.target.service, mediaType, compression, cause == upstream.NeedsHTTP2 && !crosses)
	case upstream.HeadersTooLarge:
		return contract.Errorf(momv1.Reason_REASON_HEADERS_TOO_LARGE,
			"the call has %d bytes of headers, with those of HTTP/2 itself more than %s takes (SETTINGS_MAX_HEADER_LIST_SIZE); it was not executed",
			upstream.HeaderBytes(c.req.Header), c.target.service)
	}
	return contract.Errorf(momv1.Reason_REASON_HEADER_INVALID, "a header of the call is not valid in HTTP; it was not executed")
}

// untold is the error for a call that needs a schema which nobody knows yet, but which may still come.
func untold(c *call) *connect.Error {
	return contract.Errorf(momv1.Reason_REASON_SERVICE_UNAVAILABLE,
		"nobody has told the schema of %s yet, which the call needs; the call was not executed", c.target.service)
}

// retryAfter reads the time for which the service asks us to wait; ok is false when
// it names none, or a longer one than we wait for.
func retryAfter(res *upstream.Response) (time.Duration, bool) {
	seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
	d := time.Duration(seconds) * time.Second
	return d, err == nil && d >= 0 && d <= time.Second
}

// badBody is for a body that ends before its time or is not well formed.
func (c *call) badBody(err error) *connect.Error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return connect.Errorf(connect.CodeResourceExhausted, "request body is larger than %d bytes", tooLarge.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if c.late(0) {
			return connect.NewError(connect.CodeDeadlineExceeded, "request body did not arrive in the time that the caller gave")
		}
		return connect.Errorf(connect.CodeInvalidArgument, "request body did not arrive within %s", bodyTimeout)
	}
	return connect.NewError(connect.CodeInvalidArgument, "request body cannot be read to its end")
}
