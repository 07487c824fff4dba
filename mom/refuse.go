package mom

import (
	"context"
	"errors"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// refuse marks the error that follows as one for the caller. why is the reason why the call is
// surely not stored.
func (x *incoming) refuse(why string) {
	x.said.Set(contract.HeaderRefused, why)
}

// addFailed answers a call that could not be stored, or that may or may not be stored.
func (in *intake) addFailed(ctx context.Context, x *incoming, task NewTask, err error) error {
	switch {
	case errors.Is(err, ErrKeyReused):
		x.refuse(contract.RefusedCall)
		return keyReused(err)
	case errors.Is(err, ErrQueueFull):
		x.refuse(contract.RefusedNow)
		return contract.Errorf(momv1.Reason_REASON_QUEUE_FULL, "the queue of %s is full; the call was not stored", in.route.Service)
	case errors.Is(err, ErrMoved):
		return in.misplaced(ctx, x, task)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	in.once.Warn("not stored", "call not stored", "task", task.ID, "procedure", in.method.Procedure, "error", err)
	if errors.Is(err, ErrNotSent) {
		return in.notStored(x, task, "the store is not available")
	}
	x.said.Set(contract.HeaderUnsure, "1")
	if in.method.Repeatable {
		return contract.Errorf(momv1.Reason_REASON_STORE_UNCERTAIN, "the call may or may not be stored; it may be sent again")
	}
	return contract.Errorf(momv1.Reason_REASON_OUTCOME_UNKNOWN, "the call may or may not be stored; it may still be executed")
}

// notStored answers a call that cannot be stored, with the reason why it came here and the reason why it is not stored.
func (in *intake) notStored(x *incoming, task NewTask, why string) error {
	x.refuse(contract.RefusedNow)
	said := "it was not stored"
	if task.KeyHash != "" {
		said += " this time" // an earlier offer may have been stored
	}
	return contract.Errorf(momv1.Reason_REASON_STORE_UNAVAILABLE, "%s, and %s; %s", contract.WhyStored(in.route.Service, task.Cause), why, said)
}

// notReceived answers a call whose message could not be read. A message that is small only while it is
// compressed is too large to be stored; in an outage this must not become a final error.
func (in *intake) notReceived(x *incoming, err error) error {
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		return err
	}
	cause := x.first(contract.HeaderCause)
	reason := momv1.Reason_REASON_REQUEST_TOO_LARGE
	if cause != "" {
		reason = momv1.Reason_REASON_CALL_NOT_STORABLE
	}
	return contract.Errorf(reason, "%s, and its message is larger than %d bytes; it was not stored", contract.WhyStored(in.route.Service, cause), maxRequest)
}
