package redisstore_test

import (
	"errors"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// clocked returns a store whose time stands still, and a function that moves the time on and
// reaps.
func clocked(t *testing.T) (e *env, after func(time.Duration)) {
	t.Helper()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	server, clock := redistest.NewClocked(t, now)
	e = newEnv(t, redisstore.Config{URL: server.URL()})
	return e, func(d time.Duration) {
		t.Helper()
		now = now.Add(d)
		clock.Set(t, now)
		_, err := e.Reap(e.ctx, e.shard)
		e.ok(err)
	}
}

func (e *env) putBack(lease mom.Lease, wait time.Duration, all bool) (due time.Duration) {
	e.t.Helper()
	due, err := e.PutBack(e.ctx, lease, "resource-exhausted", wait, all)
	e.ok(err)
	return due
}

// When a service asks for time, nobody leases its tasks meanwhile. The task that it refused is
// not the first after that, and no attempt is spent.
func TestPutBack(t *testing.T) {
	t.Parallel()
	e, after := clocked(t)
	other := newEnv(t, e.cfg)
	id, behind := e.add(undeclared), e.add()
	lease := e.lease()
	e.ok(e.MarkSent(e.ctx, lease))
	if due := e.putBack(lease, 20*time.Second, true); due <= 20*time.Second {
		t.Errorf("it waits for %v, want more than its shard", due)
	}
	e.putBack(lease, 20*time.Second, true) // the reply may have been lost
	e.wantState(id, retrying)
	if task := e.get(id); task.GetAttempts() != 0 || task.GetLastFailure() != "resource-exhausted" || task.GetNextAttemptTime() == nil {
		t.Errorf("got %v, want no attempt, the reason, and the next time", task)
	}
	for _, passed := range []time.Duration{0, 19 * time.Second} {
		after(passed)
		leases, err := other.Lease(e.ctx, e.shard, 5, time.Hour)
		var limit *mom.LimitedError
		if !errors.As(err, &limit) || limit.Wait <= 0 || limit.Wait > 20*time.Second {
			t.Errorf("lease: %v, %v, want none for 20s at most", leases, err)
		}
		if depth, err := e.Depth(e.ctx, e.shard); err != nil || depth.Refused != limit.Wait {
			t.Errorf("depth: refused for %v, %v, want %v", depth.Refused, err, limit.Wait)
		}
	}
	after(1100 * time.Millisecond)
	if lease := other.lease(); lease.ID != behind {
		t.Errorf("leased %v first, want the task behind", lease.ID)
	}
	after(time.Second)
	if lease := e.lease(); lease.ID != id || lease.Attempts != 0 || lease.PutBack != 1 {
		t.Errorf("leased %+v, want it without an attempt, put back once", lease)
	}
}

// A task that is put back alone waits twice as long each time. An old lease is of no use, and the
// task may be cancelled, or expires.
func TestPutBackAlone(t *testing.T) {
	t.Parallel()
	e, after := clocked(t)
	id := e.add(undeclared, ttl(time.Hour))
	for _, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 160 * time.Second} {
		lease := e.lease()
		if due := e.putBack(lease, 10*time.Second, false); due != want {
			t.Errorf("put back for %v, want %v", due, want)
		}
		if _, err := e.PutBack(e.ctx, mom.Lease{ID: id, Epoch: lease.Epoch - 1}, "late", time.Second, false); !errors.Is(err, mom.ErrFenced) {
			t.Errorf("with an old lease: got %v, want ErrFenced", err)
		}
		after(want + time.Second)
		e.wantState(id, queued)
	}
	e.putBack(e.lease(), time.Hour, false)
	cancelled := e.add(undeclared)
	e.putBack(e.lease(), time.Hour, false)
	e.ok(e.Cancel(e.ctx, cancelled))
	after(time.Hour)
	e.wantState(id, expired)
	late := e.add(undeclared, ttl(time.Minute))
	lease := e.lease()
	after(2 * time.Minute)
	e.putBack(lease, time.Second, false)
	for _, ended := range []contract.TaskID{id, late} {
		e.wantState(ended, expired)
	}
}

// A clock that is set back does not prolong the wait of a shard, however little, and not when it comes to the same time again either. The
// service may ask for time anew.
func TestPutBackOnAClockSetBack(t *testing.T) {
	t.Parallel()
	for _, back := range []time.Duration{time.Second, 90 * time.Second, time.Hour} {
		t.Run(back.String(), func(t *testing.T) {
			t.Parallel()
			e, after := clocked(t)
			for range 6 {
				e.add(ttl(10 * time.Hour))
			}
			first, second, third := e.lease(), e.lease(), e.lease()
			e.putBack(first, 20*time.Second, true)
			after(-back)
			e.lease()
			after(back + 5*time.Second)
			e.lease() // though it comes before the time that was asked for
			e.putBack(second, 20*time.Second, true)
			after(-back)
			e.putBack(third, 10*time.Second, true)
			var limit *mom.LimitedError
			if _, err := e.Lease(e.ctx, e.shard, 1, time.Hour); !errors.As(err, &limit) || limit.Wait > 10*time.Second {
				t.Errorf("lease: %v, want none for 10s", err)
			}
		})
	}
}
