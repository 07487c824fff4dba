package redisstore_test

import (
	"testing"
	"time"

	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// A task runs past its TTL, then the clock is set back and the task comes back. It expires when
// the clock reaches its TTL again.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	for name, giveBack := range map[string]func(e *env, lease mom.Lease) error{
		"released": func(e *env, lease mom.Lease) error { return e.Release(e.ctx, lease) },
		"retried": func(e *env, lease mom.Lease) error {
			_, err := e.Spend(e.ctx, lease, "reset", time.Hour, 9)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
			server, clock := redistest.NewClocked(t, start)
			e := newEnv(t, redisstore.Config{URL: server.URL()})
			id := e.add(ttl(time.Minute))
			lease := e.lease()
			reapAt := func(passed time.Duration) {
				clock.Set(t, start.Add(passed))
				_, err := e.Reap(e.ctx, e.shard)
				e.ok(err)
			}
			reapAt(2 * time.Minute)
			e.wantState(id, running)
			clock.Set(t, start)
			e.ok(giveBack(e, lease))
			reapAt(2 * time.Minute)
			e.wantState(id, expired)
		})
	}
}

var clockStart = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// A lease whose holder is gone ends within its time, though the clock was set back
// by an hour; so does the pause before another attempt.
func TestLeaseAfterClockSetBack(t *testing.T) {
	t.Parallel()
	server, clock := redistest.NewClocked(t, clockStart)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	lost, unsent, later := e.add(undeclared), e.add(), e.add()
	leases, err := e.Lease(e.ctx, e.shard, 3, mom.LongestLease)
	e.ok(err)
	e.ok(e.MarkSent(e.ctx, leases[0]))
	_, err = e.Spend(e.ctx, leases[2], "reset", mom.LongestBackoff, 9)
	e.ok(err)

	back := clockStart.Add(-time.Hour)
	clock.Set(t, back)
	reaped, err := e.Reap(e.ctx, e.shard)
	if e.ok(err); reaped.Next <= 0 || reaped.Next > mom.LongestLease {
		t.Errorf("next: got %v, want the end of the leases", reaped.Next)
	}
	e.wantState(lost, running)
	if got, want := e.get(later).NextAttemptTime.AsTime(), back.Add(mom.LongestBackoff); !got.Equal(want) {
		t.Errorf("next attempt: got %v, want %v", got, want)
	}
	clock.Set(t, back.Add(mom.LongestLease))
	for range 2 { // sees them, ends them
		_, err = e.Reap(e.ctx, e.shard)
		e.ok(err)
	}
	e.wantState(lost, uncertain)
	e.wantState(unsent, queued)
	clock.Set(t, back.Add(mom.LongestBackoff))
	_, err = e.Reap(e.ctx, e.shard)
	e.ok(err)
	e.wantState(later, queued)
}

// When the clock is set ahead, all leases are over at once. Those that are renewed go on, and
// their holders can still settle the tasks.
func TestLeaseAfterClockSetAhead(t *testing.T) {
	t.Parallel()
	server, clock := redistest.NewClocked(t, clockStart)
	e := newEnv(t, redisstore.Config{URL: server.URL(), LeaseGrace: time.Nanosecond})
	renewed, settled, gone := e.add(undeclared, ttl(24*time.Hour)), e.add(undeclared, ttl(24*time.Hour)), e.add(undeclared, ttl(24*time.Hour))
	leases, err := e.Lease(e.ctx, e.shard, 3, mom.LongestLease)
	e.ok(err)
	for _, lease := range leases {
		e.ok(e.MarkSent(e.ctx, lease))
	}
	clock.Set(t, clockStart.Add(time.Hour))
	_, err = e.Reap(e.ctx, e.shard)
	e.ok(err)
	e.wantState(renewed, running)
	lost, err := e.Renew(e.ctx, e.shard, leases[:1], mom.LongestLease)
	if err != nil || len(lost) != 0 {
		t.Fatalf("renew: got %v, %v, want none lost", lost, err)
	}
	e.ok(e.Settle(e.ctx, leases[1], success("done")))
	for range 2 {
		_, err = e.Reap(e.ctx, e.shard)
		e.ok(err)
	}
	e.wantState(renewed, running)
	e.wantState(settled, succeeded)
	e.wantState(gone, uncertain)
	e.ok(e.Settle(e.ctx, leases[0], success("done")))
}

// A process ends a lease only when it has watched the lease for LeaseGrace by its own clock,
// however often it looks.
func TestLeaseGrace(t *testing.T) {
	t.Parallel()
	server, clock := redistest.NewClocked(t, clockStart)
	patient := newEnv(t, redisstore.Config{URL: server.URL(), LeaseGrace: time.Hour})
	e := newEnv(t, redisstore.Config{URL: server.URL(), Prefix: patient.cfg.Prefix})
	id := patient.add(ttl(24 * time.Hour))
	patient.leaseFor(mom.LongestLease)
	clock.Set(t, clockStart.Add(mom.LongestLease))
	for range 3 {
		reaped, err := patient.Reap(patient.ctx, patient.shard)
		if patient.ok(err); reaped.Next <= time.Minute || reaped.Next > time.Hour {
			t.Errorf("next: got %v, want what is left of an hour", reaped.Next)
		}
	}
	e.wantState(id, running)
	for range 2 {
		_, err := e.Reap(e.ctx, e.shard)
		e.ok(err)
	}
	e.wantState(id, queued)
}

// A limit of leases a second keeps its rate after the clock was set back.
func TestLimitAfterClockSetBack(t *testing.T) {
	t.Parallel()
	server, clock := redistest.NewClocked(t, clockStart)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	e.ok(e.Limit(e.ctx, e.shard, mom.Limits{PerSecond: 1}))
	e.add()
	e.add()
	e.lease()
	back := clockStart.Add(-time.Hour)
	clock.Set(t, back)
	if _, err := e.Lease(e.ctx, e.shard, 1, time.Second); err == nil {
		t.Error("a second lease at once: got it, want it limited")
	}
	clock.Set(t, back.Add(time.Second))
	e.lease()
}
