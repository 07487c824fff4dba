package redisstore_test

import (
	"errors"
	"testing"
	"time"

	"holdline/mom"
)

const cannotBeSent = "cannot be sent: its method is unknown"

func (e *env) passOver(lease mom.Lease, wait time.Duration) (due time.Duration) {
	e.t.Helper()
	due, err := e.PassOver(e.ctx, lease, cannotBeSent, wait)
	e.ok(err)
	return due
}

// A task that cannot be sent waits twice as long each time, up to 128 times, comes back
// in the order of arrival, and is parked when its time is over: nothing was spent.
func TestPassOver(t *testing.T) {
	t.Parallel()
	e, after := clocked(t)
	id := e.add(undeclared, ttl(time.Hour))
	after(time.Second)
	behind := e.add(ttl(time.Hour))
	for times := range 10 {
		lease := e.lease()
		if lease.ID != id {
			t.Fatalf("leased %v first, want the one that came first", lease.ID)
		}
		want := time.Second << min(times, 7)
		if due := e.passOver(lease, time.Second); due != want {
			t.Errorf("passed over for %v, want %v", due, want)
		}
		if due := e.passOver(lease, time.Second); due != 0 { // the reply may have been lost
			t.Errorf("passed over again: got %v, want nothing done", due)
		}
		if task := e.get(id); task.GetAttempts() != 0 || task.GetLastFailure() != cannotBeSent || task.GetNextAttemptTime() == nil {
			t.Errorf("got %v, want no attempt, the reason, and the next time", task)
		}
		if other := e.lease(); other.ID != behind {
			t.Fatalf("leased %v next, want the one behind", other.ID)
		} else {
			e.ok(e.Release(e.ctx, other))
		}
		after(want + time.Second)
		e.wantState(id, queued)
	}
	if _, err := e.PassOver(e.ctx, mom.Lease{ID: id, Epoch: 1}, "late", time.Second); !errors.Is(err, mom.ErrFenced) {
		t.Errorf("with an old lease: got %v, want ErrFenced", err)
	}
	e.passOver(e.lease(), time.Second)
	after(time.Hour)
	e.wantState(id, dead)
	e.wantState(behind, expired)
	e.ok(e.Retry(e.ctx, id))
	after(2 * time.Hour) // now it waits for its service, and not because it cannot be sent
	e.wantState(id, expired)
}

// A task whose TTL ends during the attempt is parked too. One that can never be sent is parked at
// once. One that was passed over may be cancelled.
func TestPassOverForGood(t *testing.T) {
	t.Parallel()
	e, after := clocked(t)
	late := e.add(undeclared, ttl(time.Minute))
	lease := e.lease()
	after(2 * time.Minute)
	e.passOver(lease, time.Second)
	e.wantState(late, dead)
	never := e.add()
	e.passOver(e.lease(), 0)
	e.wantState(never, dead)
	if task := e.get(never); task.GetAttempts() != 0 || task.GetLastFailure() != cannotBeSent {
		t.Errorf("got %v, want no attempt, and the reason", task)
	}
	withdrawn := e.add()
	e.passOver(e.lease(), time.Hour)
	e.ok(e.Cancel(e.ctx, withdrawn))
	after(time.Hour)
	e.wantState(withdrawn, cancelled)
}

// A MOM that starts may be able to send what another could not: such tasks are due at once. Tasks
// that wait for another reason go on waiting.
func TestPassedOverUntilAMOMStarts(t *testing.T) {
	t.Parallel()
	e, _ := clocked(t)
	_, err := e.Reap(e.ctx, e.shard)
	e.ok(err)
	passed := e.add()
	e.passOver(e.lease(), time.Minute)
	refused := e.add()
	e.putBack(e.lease(), time.Minute, false)
	_, err = e.Reap(e.ctx, e.shard)
	e.ok(err)
	e.wantState(passed, retrying)
	starting := newEnv(t, e.cfg)
	_, err = starting.Reap(e.ctx, e.shard)
	e.ok(err)
	e.wantState(passed, queued)
	e.wantState(refused, retrying)
}

// A task that was not sent takes nothing of the rate: the next one is leased at once.
func TestPassOverUnderARate(t *testing.T) {
	t.Parallel()
	e, _ := clocked(t)
	e.ok(e.Limit(e.ctx, e.shard, mom.Limits{PerSecond: 0.5}))
	for range 3 {
		e.add()
	}
	behind := e.add()
	for range 3 {
		e.passOver(e.lease(), time.Second)
	}
	if lease := e.lease(); lease.ID != behind {
		t.Errorf("leased %v, want the one behind those that were passed over", lease.ID)
	}
	e.add()
	var limited *mom.LimitedError
	if _, err := e.Lease(e.ctx, e.shard, 1, time.Minute); !errors.As(err, &limited) {
		t.Errorf("lease: got %v, want the rate to allow none", err)
	}
}
