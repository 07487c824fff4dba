package redisstore_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/mom"
)

func TestFirstInFirstOut(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		var want []contract.TaskID
		for range 20 {
			want = append(want, e.add())
		}
		var got []contract.TaskID
		for range 5 {
			leases, err := e.Lease(e.ctx, e.shard, 4, time.Hour)
			e.ok(err)
			for _, lease := range leases {
				got = append(got, lease.ID)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if leases, err := e.Lease(e.ctx, e.shard, 4, time.Hour); err != nil || len(leases) != 0 {
			t.Errorf("empty queue: got %v, %v", leases, err)
		}
	})
}

// Tasks that come back are leased next, in the order of arrival, in whatever way they come back.
func TestGivenBackAtTheHead(t *testing.T) {
	for name, giveBack := range map[string]func(e *env, leases []mom.Lease){
		"released": func(e *env, leases []mom.Lease) {
			for _, lease := range leases {
				e.ok(e.Release(e.ctx, lease))
			}
		},
		"released backwards": func(e *env, leases []mom.Lease) {
			for _, lease := range slices.Backward(leases) {
				e.ok(e.Release(e.ctx, lease))
			}
		},
		"leases ended": func(e *env, leases []mom.Lease) {
			_, err := e.Renew(e.ctx, e.shard, leases, time.Millisecond)
			e.ok(err)
			e.reapUntil("all are back", func() bool { return e.state(leases[0].ID) == queued && e.state(leases[2].ID) == queued })
		},
		"retried": func(e *env, leases []mom.Lease) {
			for _, lease := range leases {
				_, err := e.Spend(e.ctx, lease, "reset", 0, 9)
				e.ok(err)
			}
			e.reapUntil("all are due", func() bool { return e.state(leases[0].ID) == queued && e.state(leases[2].ID) == queued })
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, e *env) {
				want := []contract.TaskID{e.add(), e.add(), e.add(), e.add(), e.add()}
				leases, err := e.Lease(e.ctx, e.shard, 3, time.Hour)
				e.ok(err)
				giveBack(e, leases)
				if got := e.order(); !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		})
	}
}

func TestSettle(t *testing.T) {
	for name, c := range map[string]struct {
		answer *momv1.Answer
		want   momv1.TaskState
	}{
		"message": {success("sum"), succeeded},
		"error":   {failure("too large"), failed},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, e *env) {
				id := e.add()
				lease := e.lease()
				e.wantState(id, running)
				e.ok(e.MarkSent(e.ctx, lease))
				e.ok(e.MarkSent(e.ctx, lease))
				e.ok(e.Settle(e.ctx, lease, c.answer))
				e.ok(e.Settle(e.ctx, lease, success("the second settle")))
				e.wantAnswer(id, c.answer)
				task := e.get(id)
				if task.State != c.want || task.Attempts != 1 || task.EndTime == nil {
					t.Errorf("got %v, want %v after 1 attempt", task, c.want)
				}
				if kept := task.AnswerExpireTime.AsTime().Sub(task.EndTime.AsTime()); kept != time.Hour {
					t.Errorf("answer kept for: got %v, want 1h", kept)
				}
			})
		})
	}
}

// The holder of an old lease can do nothing with the task.
func TestFencing(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		id := e.add()
		old := e.leaseFor(time.Millisecond)
		e.reapUntil("the lease ends", func() bool { return e.state(id) == queued })
		fenced := func(when string, holder mom.Lease) {
			t.Helper()
			_, spend := e.Spend(e.ctx, holder, "late", 0, 1)
			for what, err := range map[string]error{
				"settle":  e.Settle(e.ctx, holder, success("late")),
				"release": e.Release(e.ctx, holder), "park": e.Park(e.ctx, holder, "late"), "spend": spend,
			} {
				if !errors.Is(err, mom.ErrFenced) {
					t.Errorf("%s, %s: got %v, want ErrFenced", when, what, err)
				}
			}
			lost, err := e.Renew(e.ctx, e.shard, []mom.Lease{holder}, time.Hour)
			if err != nil || len(lost) != 1 || lost[0].ID != holder.ID {
				t.Errorf("%s, renew: got %v, %v, want it lost", when, lost, err)
			}
		}
		lease := e.lease()
		if lease.Epoch == old.Epoch || lease.Attempts != 1 {
			t.Errorf("second lease: got %+v after %+v", lease, old)
		}
		fenced("leased again", old)
		e.wantState(id, running)

		e.ok(e.Settle(e.ctx, lease, success("in time")))
		fenced("settled by another", old)
		e.wantAnswer(id, success("in time"))

		e.add(undeclared)
		lease = e.lease()
		e.ok(e.Cancel(e.ctx, lease.ID))
		fenced("cancelled", lease)
		if err := e.MarkSent(e.ctx, lease); !errors.Is(err, mom.ErrFenced) {
			t.Errorf("cancelled, mark: got %v, want ErrFenced", err)
		}
		e.wantState(lease.ID, cancelled)

		fenced("unknown", mom.Lease{ID: e.id(), Epoch: 1})
	})
}

func TestRenewKeepsLeases(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		e.add()
		e.add()
		kept, ending := e.leaseFor(time.Millisecond), e.leaseFor(time.Millisecond)
		lost, err := e.Renew(e.ctx, e.shard, []mom.Lease{kept}, time.Hour)
		if err != nil || len(lost) != 0 {
			t.Fatalf("renew: got %v, %v, want none lost", lost, err)
		}
		e.reapUntil("the other lease ends", func() bool { return e.state(ending.ID) == queued })
		e.wantState(kept.ID, running)
		lost, err = e.Renew(e.ctx, e.shard, []mom.Lease{ending, kept}, time.Hour)
		if err != nil || len(lost) != 1 || lost[0].ID != ending.ID {
			t.Errorf("renew both: got %v, %v, want the ended one", lost, err)
		}
		if lost, err := e.Renew(e.ctx, e.shard, nil, time.Hour); err != nil || lost != nil {
			t.Errorf("renew none: got %v, %v", lost, err)
		}
	})
}

func TestRelease(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		id := e.add(undeclared)
		lease := e.lease()
		e.ok(e.MarkSent(e.ctx, lease))
		e.ok(e.Release(e.ctx, lease))
		e.ok(e.Release(e.ctx, lease))
		if task := e.get(id); task.State != queued || task.Attempts != 0 {
			t.Errorf("got %v, want it queued without an attempt", task)
		}
		// The mark is gone, so the end of the lease does no harm.
		e.leaseFor(time.Millisecond)
		e.reapUntil("it is back", func() bool { return e.state(id) == queued })
		if got := e.order(); len(got) != 1 {
			t.Errorf("in the queue: got %d, want 1", len(got))
		}
	})
}

func TestSpendUntilDead(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		id := e.add()
		lease := e.lease()
		for range 2 {
			if state, err := e.Spend(e.ctx, lease, "reset", time.Hour, 2); err != nil || state != retrying {
				t.Fatalf("first: got %v, %v, want RETRYING", state, err)
			}
		}
		task := e.get(id)
		if task.State != retrying || task.Attempts != 1 || task.LastFailure != "reset" || task.NextAttemptTime == nil {
			t.Errorf("got %v", task)
		}
		reaped, err := e.Reap(e.ctx, e.shard)
		if err != nil || reaped.Next <= 0 || reaped.Next > time.Hour {
			t.Errorf("reap: got %v, %v, want what is left of an hour", reaped.Next, err)
		}
		// Make it due now.
		e.ok(e.do("ZADD", e.key("later"), "1", id.ULID.String()).Error())
		e.reapUntil("it is due", func() bool { return e.state(id) == queued })
		lease = e.lease()
		if lease.Attempts != 1 {
			t.Errorf("attempts: got %d, want 1", lease.Attempts)
		}
		for range 2 {
			if state, err := e.Spend(e.ctx, lease, "reset again", time.Hour, 2); err != nil || state != dead {
				t.Fatalf("second: got %v, %v, want DEAD", state, err)
			}
		}
		if task := e.get(id); task.State != dead || task.Attempts != 2 || task.LastFailure != "reset again" || task.EndTime == nil {
			t.Errorf("got %v", task)
		}
		if depth, err := e.Depth(e.ctx, e.shard); err != nil || depth.Dead != 1 {
			t.Errorf("depth: got %+v, %v, want 1 dead", depth, err)
		}
	})
}

func TestParkThenRetry(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		id := e.add(undeclared)
		lease := e.lease()
		e.ok(e.MarkSent(e.ctx, lease))
		e.ok(e.Park(e.ctx, lease, "cut off"))
		e.ok(e.Park(e.ctx, lease, "cut off"))
		task := e.get(id)
		if task.State != uncertain || task.Attempts != 1 || task.LastFailure != "cut off" || task.EndTime == nil {
			t.Errorf("parked: got %v", task)
		}
		behind := e.add()
		e.ok(e.Retry(e.ctx, id))
		if err := e.Retry(e.ctx, id); !errors.Is(err, mom.ErrTaskState) {
			t.Errorf("retried twice: got %v, want ErrTaskState", err)
		}
		if err := e.Retry(e.ctx, e.id()); !errors.Is(err, mom.ErrNotFound) {
			t.Errorf("unknown: got %v, want ErrNotFound", err)
		}
		task = e.get(id)
		if task.State != queued || task.Attempts != 0 || task.LastFailure != "" || task.EndTime != nil {
			t.Errorf("retried: got %v", task)
		}
		if got := e.order(); !slices.Equal(got, []contract.TaskID{behind, id}) {
			t.Errorf("order: got %v, want the retried one last", got)
		}
	})
}

func TestRetryDead(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		const n = 130 // more than a batch
		for i := range n {
			e.add()
			lease := e.lease()
			if i%10 == 0 {
				e.ok(e.Park(e.ctx, lease, "cut off"))
				continue
			}
			_, err := e.Spend(e.ctx, lease, "reset", 0, 1)
			e.ok(err)
		}
		for _, c := range []struct {
			uncertain bool
			want      int64
		}{{false, n - n/10}, {false, 0}, {true, n / 10}, {true, 0}} {
			if got, err := e.RetryDead(e.ctx, e.shard, c.uncertain); err != nil || got != c.want {
				t.Errorf("uncertain %v: got %d, %v, want %d", c.uncertain, got, err, c.want)
			}
		}
		if got := e.order(); len(got) != n {
			t.Errorf("queued: got %d, want %d", len(got), n)
		}
	})
}

func TestCancel(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		if err := e.Cancel(e.ctx, e.id()); !errors.Is(err, mom.ErrNotFound) {
			t.Errorf("unknown: got %v, want ErrNotFound", err)
		}
		// Each leads one leased task to a state in which it is then cancelled.
		for name, c := range map[string]struct {
			prepare func(lease mom.Lease)
			want    error
		}{
			"queued":                {func(l mom.Lease) { e.ok(e.Release(e.ctx, l)) }, nil},
			"leased":                {func(mom.Lease) {}, nil},
			"repeatable and leased": {func(mom.Lease) {}, mom.ErrTaskState},
			"sent":                  {func(l mom.Lease) { e.ok(e.MarkSent(e.ctx, l)) }, mom.ErrTaskState},
			"retrying":              {func(l mom.Lease) { _, err := e.Spend(e.ctx, l, "reset", time.Hour, 9); e.ok(err) }, mom.ErrTaskState},
			"dead":                  {func(l mom.Lease) { _, err := e.Spend(e.ctx, l, "reset", 0, 1); e.ok(err) }, nil},
			"parked":                {func(l mom.Lease) { e.ok(e.Park(e.ctx, l, "cut off")) }, nil},
			"settled":               {func(l mom.Lease) { e.ok(e.Settle(e.ctx, l, success("done"))) }, mom.ErrTaskState},
		} {
			id := e.add(func(task *mom.NewTask) { task.Repeatable = strings.HasPrefix(name, "repeatable") })
			lease := e.lease()
			if lease.ID != id {
				t.Fatalf("%s: leased %v, want %v", name, lease.ID, id)
			}
			c.prepare(lease)
			before := e.state(id)
			for range 2 {
				if err := e.Cancel(e.ctx, id); !errors.Is(err, c.want) {
					t.Errorf("%s: got %v, want %v", name, err, c.want)
				}
			}
			want := cancelled
			if c.want != nil || before == dead || before == uncertain {
				want = before
			}
			e.wantState(id, want)
		}
		depth, err := e.Depth(e.ctx, e.shard)
		depth.Bytes = 0
		if want := (mom.Depth{Running: 2, Retrying: 1}); err != nil || depth != want {
			t.Errorf("depth: got %+v, %v, want %+v", depth, err, want)
		}
	})
}

func TestPause(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		e.add()
		for range 2 {
			e.ok(e.Pause(e.ctx, e.shard, true))
		}
		if got := e.order(); len(got) != 0 {
			t.Errorf("leased while paused: %v", got)
		}
		if depth, err := e.Depth(e.ctx, e.shard); err != nil || !depth.Paused || depth.Queued != 1 {
			t.Errorf("depth: got %+v, %v, want one queued, paused", depth, err)
		}
		for range 2 {
			e.ok(e.Pause(e.ctx, e.shard, false))
		}
		if got := e.order(); len(got) != 1 {
			t.Errorf("leased after the pause: got %d, want 1", len(got))
		}
	})
}

// A call that is missing or broken can't be replayed; it must not block others.
func TestUnreadableCallIsParked(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		missing, broken, good := e.add(), e.add(), e.add()
		e.ok(e.do("DEL", e.key("p:"+missing.ULID.String())).Error())
		e.ok(e.do("SET", e.key("p:"+broken.ULID.String()), "\xff\xff").Error())
		if got := e.order(); !slices.Equal(got, []contract.TaskID{good}) {
			t.Errorf("leased: got %v, want %v", got, good)
		}
		e.wantState(missing, dead)
		e.wantState(broken, dead)
	})
}

func TestDepth(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		if depth, err := e.Depth(e.ctx, e.shard); err != nil || depth != (mom.Depth{}) {
			t.Errorf("empty: got %+v, %v", depth, err)
		}
		e.add()
		e.add()
		e.lease()
		until(t, "the head has waited", func() bool {
			depth, err := e.Depth(e.ctx, e.shard)
			if err != nil || depth.Queued != 1 || depth.Running != 1 {
				t.Fatalf("got %+v, %v, want one queued, one running", depth, err)
			}
			return depth.OldestWait > 0
		})
	})
}
