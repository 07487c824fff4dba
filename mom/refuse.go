package mom

import (
	"context"
	"errors"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// refuse says that the error which follows is the caller's, and why the call is
// surely not stored.
func (x *incoming) refuse(why string) {
	x.said.Set(contract.HeaderRefused, why)
}

// addFailed says that a call could not be stored, or may not have been.
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

// notStored says why the call came here and why it cannot stay.
func (in *intake) notStored(x *incoming, task NewTask, why string) error {
	x.refuse(contract.RefusedNow)
	said := "it was not stored"
	if task.KeyHash != "" {
		said += " this time" // maybe it was before
	}
	return contract.Errorf(momv1.Reason_REASON_STORE_UNAVAILABLE, "%s, and %s; %s", contract.WhyStored(in.route.Service, task.Cause), why, said)
}

// notReceived tells of a message that could not be read. One that is small only as long as it is
// compressed is too large to be stored: an outage must not make a final error of that.
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
