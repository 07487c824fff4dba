package mom

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/logonce"
)

// gatewaysClock is how much earlier a hold may end at the gateway than here: the call took some
// time to reach us, and we notice only later that the gateway has closed the connection.
const gatewaysClock = 500 * time.Millisecond

// quiet is how long we wait for an answer that should come soon before we report to the gateway that the call is stored. Most answers come
// sooner, and make that report unnecessary.
const quiet = 20 * time.Millisecond

// sayStored sends the 103 that stops the gateway's clock: the call is stored as this task, and the
// answer may come later.
func sayStored(to *incoming, id string, expireTime time.Time) {
	said := headers{{Name: contract.HeaderTask, Value: id}}
	if !expireTime.IsZero() {
		said.Set(contract.HeaderExpires, expireTime.Format(time.RFC3339Nano))
	}
	to.inform(said)
}

// holds keep callers until their tasks have answers. They are safe for concurrent use.
type holds struct {
	store    readStore
	shelf    *shelf
	lapses   *lapses
	traffic  *traffics
	limit    int // of held callers
	draining <-chan struct{}
	once     *logonce.Logger
	callers  atomic.Int64 // held callers
}

// hold waits for the task's answer, and answers the caller with it. It reports to the gateway that the call is stored: at once, or after quiet if the answer should come soon. It
// returns errKeyEnded if the task that the call's key named is gone, so that the call is not stored.
func (h *holds) hold(ctx context.Context, to *incoming, wait time.Duration, task NewTask, added Added, soon bool, waiter *waiter) error {
	defer h.callers.Add(-1)
	if h.callers.Add(1) > int64(h.limit) && wait > 0 {
		h.once.Warn("held", "limit of held callers reached; one more gets its handle at once", "limit", h.limit)
		wait = 0
	}
	// A task that was there before may have ended by now; any other task is new.
	look := added.Attached || added.Known
	if wait == 0 && !look {
		return writeHandle(to, &momv1.TaskHandle{State: momv1.TaskState_TASK_STATE_QUEUED, ExpireTime: timestamppb.New(added.ExpireTime)})
	}
	ask := read // the end of the caller's own task is published in any case: see NewTask.Waits
	if look && wait > 0 {
		ask = listen
	}
	callers := &h.traffic.of(task.ID.Service).callers
	defer callers.Add(-1)
	callers.Add(1)
	over := time.NewTimer(wait)
	defer over.Stop()
	until := time.Now().Add(wait)
	if soon {
		over.Reset(min(wait, quiet))
	}
	id, attached := added.ID, added.Attached
	for said := false; ; {
		var again <-chan time.Time
		if look {
			looking, cancel := ctx, context.CancelFunc(func() {})
			if !said {
				looking, cancel = context.WithTimeout(ctx, storeTimeout) // the gateway does not wait longer for a first word
			}
			found, answer, err := ask(looking, h.store, id)
			cancel()
			switch {
			case errors.Is(err, ErrUnavailable):
				// The call is stored. If we answered "unavailable", the caller would send it again.
				again = time.After(storePause)
			case errors.Is(err, ErrNotFound) && attached:
				return errKeyEnded
			case errors.Is(err, ErrNotFound):
				return h.storeLost(id, task.Repeatable)
			case errors.Is(err, ErrRecordVersion):
				to.said.Delete(contract.HeaderTask) // so that the error is not taken for the task's own answer
				to.said.Set(contract.HeaderUnsure, "1")
				return err
			case err != nil:
				return err
			case !contract.IsOpen(found.GetState()):
				if attached {
					to.said.Set(contract.HeaderReplayed, "true")
				}
				return h.reply(ctx, to, found, answer)
			default:
				attached = false
			}
		}
		if !said && (look || !soon) {
			sayStored(to, to.task(), added.ExpireTime)
			said = true
			over.Reset(time.Until(until))
		}
		select {
		case <-waiter.changed:
			if end := waiter.ended.Load(); end != nil && end.id == id {
				return h.reply(ctx, to, &momv1.Task{Id: to.task(), Procedure: task.Call.GetProcedure(), State: StateOf(end.answer)}, end.answer)
			}
			look = true
		case <-again:
		case <-ctx.Done():
			// The caller may still be there, and its gateway may be about to offer the call again.
			// Near the end of the hold the gateway gives the caller the handle by itself.
			if !task.Kept && time.Now().Before(until.Add(-gatewaysClock)) {
				h.lapses.add(id, task.Offer)
			}
			return ctx.Err()
		case <-over.C:
			if !said {
				soon = false
				continue
			}
			return h.handOut(ctx, to, id, task.Repeatable)
		case <-h.draining:
			return h.handOut(ctx, to, id, task.Repeatable)
		}
	}
}

// storeLost answers the caller of a task that is no longer in the store, though it
// had neither ended nor expired.
func (h *holds) storeLost(id contract.TaskID, repeatable bool) error {
	h.once.Log(slog.LevelError, "lost "+id.Service, "the store has lost a task", "task", id)
	if repeatable {
		return contract.Errorf(momv1.Reason_REASON_STORE_UNCERTAIN, "the store has lost the call; it may be sent again")
	}
	return contract.Errorf(momv1.Reason_REASON_OUTCOME_UNKNOWN, "the store has lost the call, which may have been executed")
}

// handOut answers a caller whose hold ends with the handle of its task. If the task has ended just now, or we have missed its end, it answers with the
// task's answer.
func (h *holds) handOut(ctx context.Context, to *incoming, id contract.TaskID, repeatable bool) error {
	handle := &momv1.TaskHandle{State: momv1.TaskState_TASK_STATE_QUEUED}
	// The task is stored, so the caller gets a handle even if its state cannot be read now.
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	task, answer, err := read(bounded, h.store, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return h.storeLost(id, repeatable)
	case err == nil && !contract.IsOpen(task.GetState()):
		return h.reply(ctx, to, task, answer)
	case err == nil:
		handle.State, handle.ExpireTime = task.GetState(), task.GetExpireTime()
	}
	return writeHandle(to, handle)
}

// writeHandle answers with the handle of the task that the headers name. In gRPC the headers of the handle are in the trailers, too: clients
// look there for the pushback, and some show their callers only the trailers of an error.
func writeHandle(to *incoming, handle *momv1.TaskHandle) error {
	handle.Id = to.task()
	grpc := to.protocol != connect.ProtocolNameConnect
	if grpc {
		to.trailer = slices.Grow(to.trailer, maxOfHandle)
	}
	for key, value := range contract.StoredHeader(handle.GetId(), grpc) {
		to.said.Set(key, value)
		if grpc {
			to.trailer.Set(key, value)
		}
	}
	return contract.NewHandle(handle)
}

// maxOfHandle is how many headers go with a handle.
const maxOfHandle = 6

// reply answers the caller with the task's result.
func (h *holds) reply(ctx context.Context, to *incoming, task *momv1.Task, answer *momv1.Answer) error {
	to.said.add(answer.GetHeader())
	to.trailer.add(answer.GetTrailer())
	if err := contract.TaskError(task, answer); err != nil {
		return err
	}
	message, err := h.shelf.answerAs(ctx, to.codec(), task, answer)
	if err != nil {
		return err
	}
	to.answer = &bridge.Message{JSON: to.json, Bytes: message}
	return nil
}
