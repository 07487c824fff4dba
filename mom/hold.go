package mom

import (
	"context"
	"errors"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// sayStored stops the gateway's clock: the call is stored, as this task, and the
// answer may take its time.
func sayStored(ctx context.Context, id contract.TaskID) {
	if w, ok := ctx.Value(writerKey{}).(http.ResponseWriter); ok {
		w.Header().Set(contract.HeaderTask, id.String())
		contract.Inform(w, http.StatusEarlyHints)
		w.Header().Del(contract.HeaderTask) // connect sets it with the answer
	}
}

// hold waits for the answer, and answers.
func (in *intake) hold(ctx context.Context, stream connect.ServerStream, info *connect.CallInfo, wait time.Duration, added Added, changed <-chan struct{}) error {
	over := time.NewTimer(wait)
	defer over.Stop()
	id, attached := added.ID, added.Attached
	// A task that was there before may have ended by now; any other has just begun.
	look := attached || added.Known
	for {
		var again <-chan time.Time
		if look {
			task, answer, err := in.read(ctx, id)
			switch {
			case errors.Is(err, ErrUnavailable):
				// The call is stored. Whoever hears "unavailable" sends it again.
				again = time.After(storePause)
			case err != nil:
				return err
			case !open(task.GetState()):
				if attached {
					info.ResponseHeader().Set(contract.HeaderReplayed, "true")
				}
				return in.reply(stream, info, task, answer)
			default:
				attached = false
			}
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
			in.callerLeft(ctx, id)
			return ctx.Err()
		case <-over.C:
			return in.handOut(ctx, stream, info, id)
		case <-in.draining:
			return in.handOut(ctx, stream, info, id)
		}
	}
}

// callerLeft takes a task along whose caller cannot ask for it any more: it has no
// key, and nobody got the handle.
func (in *intake) callerLeft(ctx context.Context, id contract.TaskID) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	switch err := in.store.Abandon(bounded, id); {
	case err == nil:
		in.cfg.Logger.Debug("caller left, task cancelled", "task", id)
	case errors.Is(err, ErrTaskState), errors.Is(err, ErrNotFound): // kept, sent, or ended
	default:
		in.cfg.Logger.Warn("caller left, task not cancelled", "task", id, "error", err)
	}
}

// handOut answers with the handle of a task whose caller was held in vain; with its
// answer when it has ended just now, or unheard.
func (in *intake) handOut(ctx context.Context, stream connect.ServerStream, info *connect.CallInfo, id contract.TaskID) error {
	handle := &momv1.TaskHandle{Id: id.String(), State: momv1.TaskState_TASK_STATE_QUEUED}
	// The task is stored; a state that cannot be told now changes nothing.
	if task, answer, err := in.read(ctx, id); err == nil {
		if !open(task.GetState()) {
			return in.reply(stream, info, task, answer)
		}
		handle.State, handle.ExpireTime = task.GetState(), task.GetExpireTime()
	}
	return writeHandle(info, handle)
}

func writeHandle(info *connect.CallInfo, handle *momv1.TaskHandle) error {
	for key, value := range contract.StoredHeader(handle.GetId(), info.Protocol != connect.ProtocolNameConnect) {
		info.ResponseHeader().Set(key, value)
	}
	return contract.Stored(handle)
}

// reply answers with what the task came to.
func (in *intake) reply(stream connect.ServerStream, info *connect.CallInfo, task *momv1.Task, answer *momv1.Answer) error {
	addMetadata(info.ResponseHeader(), answer.GetHeader())
	addMetadata(info.ResponseTrailer(), answer.GetTrailer())
	if err := outcome(task, answer); err != nil {
		return err
	}
	return stream.Send(&stored{bytes: answer.GetMessage().GetValue(), desc: in.method.Descriptor.Output()})
}
