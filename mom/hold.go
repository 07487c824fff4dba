package mom

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// gatewaysClock is how much earlier than here a gateway may find that a hold is over: its
// call was on its way to us for so long, and the end of its connection may be as well.
const gatewaysClock = 500 * time.Millisecond

// sayStored stops the gateway's clock: the call is stored, as this task, and the
// answer may take its time.
func sayStored(ctx context.Context, added Added) {
	if w, ok := ctx.Value(writerKey{}).(http.ResponseWriter); ok {
		w.Header().Set(contract.HeaderTask, added.ID.String())
		if !added.ExpireTime.IsZero() {
			w.Header().Set(contract.HeaderExpires, added.ExpireTime.Format(time.RFC3339Nano))
		}
		contract.Inform(w, http.StatusEarlyHints)
		w.Header().Del(contract.HeaderTask) // connect sets it with the answer
		w.Header().Del(contract.HeaderExpires)
	}
}

// caller is who gets the answer.
type caller struct {
	stream connect.ServerStream
	info   *connect.CallInfo
	codec  string // as in records
}

// hold says that the call is stored, waits for the answer, and answers. errKeyEnded
// when the call is not stored, since the task that its key named is gone.
func (in *intake) hold(ctx context.Context, to caller, wait time.Duration, task NewTask, added Added, changed <-chan struct{}) error {
	over := time.NewTimer(wait)
	defer over.Stop()
	until := time.Now().Add(wait)
	id, attached := added.ID, added.Attached
	// A task that was there before may have ended by now; any other has just begun.
	look := attached || added.Known
	for said := false; ; {
		var again <-chan time.Time
		if look {
			task, answer, err := read(ctx, in.store, id)
			switch {
			case errors.Is(err, ErrUnavailable):
				// The call is stored. Whoever hears "unavailable" sends it again.
				again = time.After(storePause)
			case errors.Is(err, ErrNotFound) && attached:
				return errKeyEnded
			case errors.Is(err, ErrNotFound):
				return in.storeLost(id)
			case err != nil:
				return err
			case !open(task.GetState()):
				if attached {
					to.info.ResponseHeader().Set(contract.HeaderReplayed, "true")
				}
				return in.reply(ctx, to, task, answer)
			default:
				attached = false
			}
		}
		if !said {
			sayStored(ctx, added)
			said = true
		}
		select {
		case <-changed:
			look = true
			continue
		default:
		}
		select {
		case <-changed:
			look = true
		case <-again:
		case <-ctx.Done():
			// The caller may be there, and its gateway about to offer the call again.
			// At the hold's end the gateway gives it the handle by itself.
			if !task.Kept && time.Now().Before(until.Add(-gatewaysClock)) {
				in.lapses.add(id, task.Offer)
			}
			return ctx.Err()
		case <-over.C:
			return in.handOut(ctx, to, id)
		case <-in.draining:
			return in.handOut(ctx, to, id)
		}
	}
}

// storeLost answers the caller of a task that is no longer in the store, though it
// had neither ended nor expired.
func (in *intake) storeLost(id contract.TaskID) error {
	in.once.Log(slog.LevelError, "lost "+id.Service, "the store has lost a task", "task", id)
	if in.method.Repeatable {
		return contract.Errorf(momv1.Reason_REASON_STORE_UNCERTAIN, "the store has lost the call; it may be sent again")
	}
	return contract.Errorf(momv1.Reason_REASON_OUTCOME_UNKNOWN, "the store has lost the call, which may have been executed")
}

// handOut answers with the handle of a task whose caller was held in vain; with its
// answer when it has ended just now, or unheard.
func (in *intake) handOut(ctx context.Context, to caller, id contract.TaskID) error {
	handle := &momv1.TaskHandle{Id: id.String(), State: momv1.TaskState_TASK_STATE_QUEUED}
	// The task is stored; a state that cannot be told now changes nothing.
	task, answer, err := read(ctx, in.store, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return in.storeLost(id)
	case err == nil && !open(task.GetState()):
		return in.reply(ctx, to, task, answer)
	case err == nil:
		handle.State, handle.ExpireTime = task.GetState(), task.GetExpireTime()
	}
	return writeHandle(to.info, handle)
}

// writeHandle answers with a handle. In gRPC it is in the trailers, too: there is where a
// client looks for the pushback, and some show their callers nothing else of an error.
func writeHandle(info *connect.CallInfo, handle *momv1.TaskHandle) error {
	grpc := info.Protocol != connect.ProtocolNameConnect
	for key, value := range contract.StoredHeader(handle.GetId(), grpc) {
		info.ResponseHeader().Set(key, value)
		if grpc {
			info.ResponseTrailer().Set(key, value)
		}
	}
	return contract.Stored(handle)
}

// reply answers with what the task came to.
func (in *intake) reply(ctx context.Context, to caller, task *momv1.Task, answer *momv1.Answer) error {
	addMetadata(to.info.ResponseHeader(), answer.GetHeader())
	addMetadata(to.info.ResponseTrailer(), answer.GetTrailer())
	if err := outcome(task, answer); err != nil {
		return err
	}
	message, err := in.shelf.answerAs(ctx, to.codec, task, answer)
	if err != nil {
		return err
	}
	return to.stream.Send(&stored{message})
}
