package mom

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// attempt sends one task and records what came of it.
func (r *replayer) attempt(ctx context.Context, lease Lease) end {
	log := r.log.With("task", lease.ID, "attempt", lease.Attempts+1)
	if err := r.store.MarkSent(ctx, lease); err != nil {
		// Cancelled, leased by another, or the store is away: not ours to send.
		log.Debug("task not sent", "error", err)
		if !errors.Is(err, ErrFenced) {
			r.unmark(ctx, lease)
		}
		return end{up: true}
	}
	sent := time.Now()
	answer, result := r.sender.send(ctx, lease)
	one := end{
		up:   answer != nil || result.Kind == upstream.Unavailable || result.Kind == upstream.Exhausted,
		took: time.Since(sent),
	}
	r.metrics.sent.WithLabelValues(r.shard.Service, result.Kind.String()).Inc()
	record := func(ctx context.Context) error {
		switch {
		case answer != nil:
			return r.store.Settle(ctx, lease, answer)
		case result.Kind == upstream.NotSent || result.Kind == upstream.Refused:
			return r.store.Release(ctx, lease)
		case lease.Repeatable:
			backoff := min(firstBackoff<<min(lease.Attempts, 10), maxBackoff)
			_, err := r.store.Retry(ctx, lease, result.Cause, backoff, maxAttempts)
			r.reaper.within(backoff)
			return err
		}
		return r.store.Park(ctx, lease, result.Cause)
	}
	if answer == nil {
		log.Info("no answer", "cause", result.Cause, "procedure", lease.Call.GetProcedure())
	}
	switch err := persist(ctx, record, r.askOthers(answer)); {
	case errors.Is(err, errCannotPass) && answer != nil:
		r.giveUp(ctx, lease, answer, err)
	case errors.Is(err, ErrFenced):
		r.metrics.lost.WithLabelValues(r.shard.Service).Inc()
		log.Warn("attempt not recorded: the lease was lost")
	case err != nil:
		log.Warn("attempt not recorded: the lease will end by itself", "error", err)
	}
	return one
}

// unmark gives a task back that was not sent, since its mark may be there: with
// its lease over, it would pass for one that has run.
func (r *replayer) unmark(ctx context.Context, lease Lease) {
	err := persist(ctx, func(ctx context.Context) error { return r.store.Release(ctx, lease) }, nil)
	if err != nil && !errors.Is(err, ErrFenced) {
		r.log.Warn("task not given back: the lease will end by itself", "task", lease.ID, "error", err)
	}
}

// heavyAnswer is the least that Redis can be set to take as one text: answers up to
// it are never refused for their size.
const heavyAnswer = 1 << 20

// askOthers is what persist needs to tell an answer that is too large for the store
// from a store that is away.
func (r *replayer) askOthers(answer *momv1.Answer) func(context.Context) error {
	if proto.Size(answer) < heavyAnswer {
		return nil
	}
	return func(ctx context.Context) error {
		_, err := r.store.Depth(ctx, r.shard)
		return err
	}
}

// giveUp ends a task whose answer the store does not take: to send it again would
// bring the same answer, and its caller would wait for nothing.
func (r *replayer) giveUp(ctx context.Context, lease Lease, answer *momv1.Answer, why error) {
	r.log.Error("an answer cannot be kept", "task", lease.ID, "bytes", proto.Size(answer), "error", why)
	instead := asAnswer(connect.NewError(connect.CodeInternal, "the call was executed, but its answer cannot be kept"))
	if proto.Size(answer) >= heavyAnswer {
		instead = asAnswer(contract.Errorf(momv1.Reason_REASON_ANSWER_TOO_LARGE, "the call was executed, but its answer is larger than the store takes"))
	}
	err := persist(ctx, func(ctx context.Context) error { return r.store.Settle(ctx, lease, instead) }, nil)
	if errors.Is(err, errCannotPass) {
		err = persist(ctx, func(ctx context.Context) error { return r.store.Park(ctx, lease, "its answer cannot be kept") }, nil)
	}
	if err != nil && !errors.Is(err, ErrFenced) {
		r.log.Warn("task not ended: its lease will end by itself", "task", lease.ID, "error", err)
	}
}
