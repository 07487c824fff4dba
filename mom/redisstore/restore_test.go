package redisstore_test

import (
	"errors"
	"testing"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// After a restore, tasks that may have run and may not run twice are UNCERTAIN; others are as before.
func TestRestore(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	server, clock := redistest.NewClocked(t, start)
	e := newEnv(t, redisstore.Config{URL: server.URL(), ParkedTTL: 1000 * time.Hour})

	// led leads tasks of both kinds to a state.
	want, before := map[contract.TaskID]momv1.TaskState{}, map[contract.TaskID]string{}
	led := func(repeatable, undeclared momv1.TaskState, to func(mom.Lease)) {
		for _, may := range []bool{true, false} {
			id := e.add(func(task *mom.NewTask) { task.Repeatable = may })
			if to != nil {
				to(e.lease())
			}
			if want[id] = undeclared; may {
				want[id] = repeatable
			}
		}
	}
	led(running, uncertain, func(mom.Lease) {})
	led(running, uncertain, func(lease mom.Lease) { e.ok(e.MarkSent(e.ctx, lease)) })
	led(retrying, uncertain, func(lease mom.Lease) {
		_, err := e.Spend(e.ctx, lease, "reset", time.Hour, 9)
		e.ok(err)
	})
	led(dead, uncertain, func(lease mom.Lease) {
		_, err := e.Spend(e.ctx, lease, "reset", time.Hour, 1)
		e.ok(err)
	})
	led(uncertain, uncertain, func(lease mom.Lease) { e.ok(e.Park(e.ctx, lease, "reset")) })
	led(succeeded, succeeded, func(lease mom.Lease) { e.ok(e.Settle(e.ctx, lease, success("done"))) })
	led(cancelled, cancelled, func(lease mom.Lease) {
		e.ok(e.Release(e.ctx, lease))
		e.ok(e.Cancel(e.ctx, lease.ID))
	})
	for range 30 { // more than a batch
		led(queued, uncertain, nil)
	}
	attempts := map[contract.TaskID]int32{}
	for id := range want {
		before[id], attempts[id] = e.get(id).GetLastFailure(), e.get(id).GetEarlierAttempts()
	}

	server.Kill(t)
	clock.Set(t, start.Add(2*time.Hour)) // all TTLs are over
	server.Restart(t)
	until(t, "the test is connected again", func() bool { return e.do("PING").Error() == nil })
	clock.Set(t, start.Add(2*time.Hour+2*time.Second))
	var since []contract.TaskID
	for range 30 {
		since = append(since, e.add(undeclared))
	}
	if n, err := e.Restore(e.ctx, e.shard); err != nil || n != 34 {
		t.Errorf("restored: got %d, %v, want 34 tasks to be uncertain", n, err)
	}
	for id, state := range want {
		task := e.get(id)
		told := task.GetLastFailure() == "restored from a backup: may have run since"
		if changed := task.GetLastFailure() != before[id]; task.GetState() != state || told != changed {
			t.Errorf("got %v, want %v, and the reason if it was changed", task, state)
		}
		if open := state == queued || state == running || state == retrying; task.GetEarlierAttempts() != attempts[id]+one(open || told) {
			t.Errorf("got %v, want one more attempt if it may have run since", task)
		}
	}
	for _, id := range since {
		e.wantState(id, queued)
	}
	if depth := e.depth(); depth.Dead != 37 || depth.Uncertain != 36 || depth.Queued != 60 || depth.Running != 2 || depth.Retrying != 1 {
		t.Errorf("depth: got %+v, want 37 dead, 36 of them uncertain, 60 queued, 2 running and one retrying", depth)
	}
	if n, err := e.Restore(e.ctx, e.shard); err != nil || n != 0 {
		t.Errorf("restored again: got %d, %v, want none", n, err)
	}
	if got := len(e.dead()); got != 37 {
		t.Errorf("dead: got %d, want 37", got)
	}
	// A person retries it, and then it is as new.
	for id, state := range want {
		if state == uncertain {
			e.ok(e.Retry(e.ctx, id))
			if n, err := e.Restore(e.ctx, e.shard); err != nil || n != 0 {
				t.Errorf("restored after a retry: got %d, %v, want none", n, err)
			}
			e.wantState(id, queued)
			break
		}
	}
	var leases []mom.Lease
	until(t, "all are leased", func() bool { // some of the others expire with each
		more, err := e.Lease(e.ctx, e.shard, 100, time.Hour)
		if limited := new(mom.LimitedError); !errors.As(err, &limited) {
			e.ok(err)
		}
		leases = append(leases, more...)
		return len(leases) == len(since)+1
	})
}

// one returns 1 when so is true, else 0.
func one(so bool) int32 {
	if so {
		return 1
	}
	return 0
}
