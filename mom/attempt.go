package mom

import (
	"context"
	"errors"
	"log/slog"
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
	if f := r.sender.flaw(lease.Call); f != nil {
		return r.passOver(ctx, lease, f)
	}
	lease.Repeatable = r.sender.repeatable(lease)
	if err := r.store.MarkSent(ctx, lease); err != nil {
		// Cancelled, leased by another, not to be sent again, or the store is away.
		log.Debug("task not sent", "error", err)
		if !errors.Is(err, ErrFenced) {
			r.unmark(ctx, lease)
		}
		return end{up: true}
	}
	defer r.traffic.attempts.Add(-1)
	r.traffic.attempts.Add(1)
	sent := time.Now()
	res := r.sender.send(ctx, lease)
	took := time.Since(sent)
	r.metrics.sent.WithLabelValues(r.shard.Service, res.outcome.Kind.String()).Inc()
	if f := flawOf(res); f != nil {
		return r.passOver(ctx, lease, f)
	}
	r.tell(lease, res, sent)
	one := end{up: res.answer != nil || res.outcome.Kind == upstream.Unavailable, took: took}
	one.unsent = res.outcome.Kind == upstream.NotSent || res.outcome.Kind == upstream.Refused
	record := r.transition(lease, res)
	switch {
	case res.refused != nil:
		wait, all := r.shedding.refused(res.refused, sent, lease.PutBack > 0)
		one = end{up: true, refused: all}
		record = r.putBack(lease, res.outcome.Cause, wait, all)
	case res.answer != nil:
		r.shedding.took(sent)
	}
	err := persist(ctx, record, r.askOthers(res.answer))
	if errors.Is(err, errCannotPass) && res.answer != nil {
		r.giveUp(ctx, lease, res.answer, err)
		return one
	}
	r.note(lease, err)
	return one
}

// transition is what follows from an attempt that was not refused.
func (r *replayer) transition(lease Lease, res result) func(context.Context) error {
	return func(ctx context.Context) error {
		switch {
		case res.answer != nil:
			return r.store.Settle(ctx, lease, res.answer)
		case res.outcome.Kind == upstream.NotSent || res.outcome.Kind == upstream.Refused:
			return r.store.Release(ctx, lease)
		case lease.Repeatable:
			backoff := min(firstBackoff<<min(lease.Attempts, 10), maxBackoff)
			_, err := r.store.Retry(ctx, lease, res.outcome.Cause, backoff, maxAttempts)
			r.reaper.within(backoff)
			return err
		}
		return r.store.Park(ctx, lease, res.outcome.Cause)
	}
}

// putBack lets a task wait that the service surely has not run; all: its shard, too.
func (r *replayer) putBack(lease Lease, why string, wait time.Duration, all bool) func(context.Context) error {
	return func(ctx context.Context) error {
		due, err := r.store.PutBack(ctx, lease, why, wait, all)
		r.reaper.within(due)
		return err
	}
}

// note tells of a transition that was not made.
func (r *replayer) note(lease Lease, err error) {
	switch {
	case err == nil:
	case errors.Is(err, ErrFenced):
		r.metrics.lost.WithLabelValues(lease.ID.Service).Inc()
		r.once.Warn("fenced "+lease.ID.Service, "attempt not recorded: the lease was lost", "task", lease.ID)
	default:
		r.once.Warn("not recorded", "attempt not recorded: the lease will end by itself", "task", lease.ID, "error", err)
	}
}

// tell says what an attempt came to: to who tells of outages, and to the log where
// there was no answer.
func (r *replayer) tell(lease Lease, res result, sent time.Time) {
	service := lease.ID.Service
	switch {
	case res.answer != nil:
		r.outages.Up(service, sent)
		r.outages.Count(service, countReplayed)
		return
	case res.refused == nil:
		r.outages.Still(service, res.outcome.Cause)
	}
	r.once.Log(slog.LevelInfo, "no answer "+service+" "+res.outcome.Cause, "a stored call was not answered",
		"service", service, "cause", res.outcome.Cause, "procedure", lease.Call.GetProcedure(), "task", lease.ID, "attempt", lease.Attempts+1)
}

// unmark gives a task back that was not sent, since its mark may be there: with
// its lease over, it would pass for one that has run.
func (r *replayer) unmark(ctx context.Context, lease Lease) {
	err := persist(ctx, func(ctx context.Context) error { return r.store.Release(ctx, lease) }, nil)
	if err != nil && !errors.Is(err, ErrFenced) {
		r.once.Warn("given back", "task not given back: the lease will end by itself", "task", lease.ID, "error", err)
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
	r.once.Log(slog.LevelError, "kept "+lease.ID.Service, "an answer cannot be kept", "task", lease.ID, "bytes", proto.Size(answer), "error", why)
	instead := asAnswer(connect.NewError(connect.CodeInternal, "the call was executed, but its answer cannot be kept"))
	if proto.Size(answer) >= heavyAnswer {
		instead = asAnswer(contract.Errorf(momv1.Reason_REASON_ANSWER_TOO_LARGE, "the call was executed, but its answer is larger than the store takes"))
	}
	err := persist(ctx, func(ctx context.Context) error { return r.store.Settle(ctx, lease, instead) }, nil)
	if errors.Is(err, errCannotPass) {
		err = persist(ctx, func(ctx context.Context) error { return r.store.Park(ctx, lease, "its answer cannot be kept") }, nil)
	}
	if err != nil && !errors.Is(err, ErrFenced) {
		r.once.Warn("not ended", "task not ended: its lease will end by itself", "task", lease.ID, "error", err)
	}
}
