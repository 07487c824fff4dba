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
	"holdline/internal/logonce"
	"holdline/internal/outage"
	"holdline/internal/upstream"
)

const (
	maxAttempts = 20
	// The pause after an attempt that the service may have seen, before the next attempt.
	firstBackoff, maxBackoff = 100 * time.Millisecond, 10 * time.Second
)

// attemptStore is what an attempter needs of the store. Each transition is fenced by the lease.
type attemptStore interface {
	depthStore
	// MarkSent writes, before a task is sent, that the service may have seen it from now on. It is for tasks that are not repeatable; such a task
	// can never become repeatable again. If the service may already
	// have seen the task, at a time when it was repeatable, the task becomes UNCERTAIN and is not marked: ErrFenced.
	// ErrFenced also when the task was cancelled meanwhile. For a repeatable task nothing is done: its lease has marked it.
	MarkSent(ctx context.Context, lease Lease) error
	// Settle ends the task with its answer: SUCCEEDED or FAILED. The first
	// settle wins. told: the store need not publish the end, since this process gives the answer to all who wait for it. ErrFenced.
	Settle(ctx context.Context, lease Lease, answer *momv1.Answer, told bool) error
	// Release gives a task that the service has not seen back to the head of its queue. No attempt is
	// spent, and the mark is removed. The task expires if its TTL is over. ErrFenced.
	Release(ctx context.Context, lease Lease) error
	// PutBack lets a task that the service has not run wait before its next attempt: RETRYING, with no
	// attempt spent and no mark. With all, nothing is leased from its shard for the same
	// time, and the task waits a moment longer, so that another task may be the first. Without all,
	// the task waits twice as long each time it is put back, up to a bound. Returns how
	// long the task waits. EXPIRED when its TTL is over. ErrFenced.
	PutBack(ctx context.Context, lease Lease, why string, wait time.Duration, all bool) (time.Duration, error)
	// PassOver lets a task that cannot be sent as it is wait, with no attempt spent and
	// no mark: RETRYING, the first time for the given wait, then twice as long each time, up
	// to 128 times the given wait. DEAD when its TTL is over, and at once when wait is 0, since the task can
	// never be sent. Returns how long the task waits. A MOM that starts ends the wait, since it
	// may be able to send the task. ErrFenced.
	PassOver(ctx context.Context, lease Lease, why string, wait time.Duration) (time.Duration, error)
	// Spend spends an attempt: RETRYING after the backoff, at the head of the
	// queue then, DEAD once maxAttempts are spent, or EXPIRED when the TTL is
	// over meanwhile. Returns the state. ErrFenced.
	Spend(ctx context.Context, lease Lease, failure string, backoff time.Duration, maxAttempts int) (momv1.TaskState, error)
	// Park ends the lease of an unrepeatable task that may have run: UNCERTAIN. ErrFenced.
	Park(ctx context.Context, lease Lease, failure string) error
}

// attempter makes the attempts at the tasks of one shard, and records the result of each. It is
// safe for concurrent use.
type attempter struct {
	store    attemptStore
	shard    Shard
	sender   *sender
	reaper   *reaper
	waiters  *waiters
	metrics  *metrics
	traffic  *traffic
	outages  *outage.Log
	log      *slog.Logger
	once     *logonce.Logger // of all shards
	shedding shedding
}

// attempt sends one task and records the result.
func (a *attempter) attempt(ctx context.Context, lease Lease) report {
	k, f := a.sender.look(lease.Call)
	if f != nil {
		return a.passOver(ctx, lease, f)
	}
	lease.Repeatable = k.repeatable(lease)
	if err := a.store.MarkSent(ctx, lease); err != nil {
		// The task was cancelled, is leased by another MOM, or must not be sent again; or the store is away.
		a.log.Debug("task not sent", "task", lease.ID, "attempt", lease.Attempts+1, "error", err)
		if !errors.Is(err, ErrFenced) {
			a.unmark(ctx, lease)
		}
		return report{up: true}
	}
	defer a.traffic.attempts.Add(-1)
	a.traffic.attempts.Add(1)
	sent := time.Now()
	res := a.sender.send(ctx, lease, k)
	took := time.Since(sent)
	a.metrics.sent.WithLabelValues(a.shard.Service, res.outcome.Kind.String()).Inc()
	if f = flawOf(res); f != nil {
		return a.passOver(ctx, lease, f)
	}
	a.tell(lease, res, sent)
	one := report{up: res.answer != nil || res.outcome.Kind == upstream.Unavailable, unsent: res.unsent(), took: took}
	var wait time.Duration
	switch {
	case res.refused != nil:
		one = report{up: true}
		wait, one.refused = a.shedding.refused(res.refused, lease.ID, sent, lease.PutBack > 0)
	case res.answer != nil:
		a.shedding.took(sent)
	}
	err := persist(ctx, func(ctx context.Context) error { return a.record(ctx, lease, res, wait, one.refused) }, a.askOthers(res.answer))
	if errors.Is(err, errCannotPass) && res.answer != nil {
		a.giveUp(ctx, lease, res.answer, err)
		return one
	}
	a.note(lease, err)
	return one
}

// record makes the transition that follows from an attempt. A task that was refused waits, and with all its shard waits, too.
func (a *attempter) record(ctx context.Context, lease Lease, res result, wait time.Duration, all bool) error {
	switch {
	case res.refused != nil:
		due, err := a.store.PutBack(ctx, lease, res.outcome.Cause, wait, all)
		a.reaper.within(due)
		return err
	case res.answer != nil:
		return a.settle(ctx, lease, res.answer)
	case res.unsent():
		return a.store.Release(ctx, lease)
	case lease.Repeatable:
		backoff := min(firstBackoff<<min(lease.Attempts, 10), maxBackoff)
		_, err := a.store.Spend(ctx, lease, res.outcome.Cause, backoff, maxAttempts)
		a.reaper.within(backoff)
		return err
	}
	return a.store.Park(ctx, lease, res.outcome.Cause)
}

// settle ends a task with its answer, and gives the answer to those who wait for it in this process.
func (a *attempter) settle(ctx context.Context, lease Lease, answer *momv1.Answer) error {
	err := a.store.Settle(ctx, lease, answer, a.waiters.promise(lease.ID))
	if err != nil {
		a.waiters.takeBack(lease.ID)
		return err
	}
	a.waiters.wake(lease.ID, StateOf(answer), answer)
	return nil
}

// note logs a transition that was not made.
func (a *attempter) note(lease Lease, err error) {
	switch {
	case err == nil:
	case errors.Is(err, ErrFenced):
		a.metrics.lost.WithLabelValues(lease.ID.Service).Inc()
		a.once.Warn("fenced "+lease.ID.Service, "attempt not recorded: the lease was lost", "task", lease.ID)
	default:
		a.once.Warn("not recorded", "attempt not recorded: the lease will end by itself", "task", lease.ID, "error", err)
	}
}

// tell reports the result of an attempt to the log of outages, and logs an attempt that was not
// answered.
func (a *attempter) tell(lease Lease, res result, sent time.Time) {
	service := lease.ID.Service
	switch {
	case res.answer != nil:
		a.outages.Up(service, sent)
		a.outages.Count(service, countReplayed)
		return
	case res.refused == nil:
		a.outages.Still(service, res.outcome.Cause)
	}
	a.once.Log(slog.LevelInfo, "no answer "+service+" "+res.outcome.Cause, "a stored call was not answered",
		"service", service, "cause", res.outcome.Cause, "procedure", lease.Call.GetProcedure(), "task", lease.ID, "attempt", lease.Attempts+1)
}

// unmark gives back a task that was not sent. The store may have marked the task all the same, and a marked
// task whose lease ends counts as a task that may have run.
func (a *attempter) unmark(ctx context.Context, lease Lease) {
	err := persist(ctx, func(ctx context.Context) error { return a.store.Release(ctx, lease) }, nil)
	if err != nil && !errors.Is(err, ErrFenced) {
		a.once.Warn("given back", "task not given back: the lease will end by itself", "task", lease.ID, "error", err)
	}
}

// heavyAnswer is the smallest limit for one string that Redis can be configured with, in bytes: Redis never refuses answers up to
// this size because of their size.
const heavyAnswer = 1 << 20

// askOthers returns the question by which persist distinguishes an answer that is too large for the store
// from a store that is away.
func (a *attempter) askOthers(answer *momv1.Answer) func(context.Context) error {
	if proto.Size(answer) < heavyAnswer {
		return nil
	}
	return func(ctx context.Context) error {
		_, err := a.store.Depth(ctx, a.shard)
		return err
	}
}

// giveUp ends a task whose answer the store does not accept: sending the task again would
// bring the same answer, and its caller would wait in vain.
func (a *attempter) giveUp(ctx context.Context, lease Lease, answer *momv1.Answer, why error) {
	a.once.Log(slog.LevelError, "kept "+lease.ID.Service, "an answer cannot be kept", "task", lease.ID, "bytes", proto.Size(answer), "error", why)
	instead := asAnswer(connect.NewError(connect.CodeInternal, "the call was executed, but its answer cannot be kept"))
	if proto.Size(answer) >= heavyAnswer {
		instead = asAnswer(contract.Errorf(momv1.Reason_REASON_ANSWER_TOO_LARGE, "the call was executed, but its answer is larger than the store takes"))
	}
	err := persist(ctx, func(ctx context.Context) error { return a.settle(ctx, lease, instead) }, nil)
	if errors.Is(err, errCannotPass) {
		err = persist(ctx, func(ctx context.Context) error { return a.store.Park(ctx, lease, "its answer cannot be kept") }, nil)
	}
	if err != nil && !errors.Is(err, ErrFenced) {
		a.once.Warn("not ended", "task not ended: its lease will end by itself", "task", lease.ID, "error", err)
	}
}
