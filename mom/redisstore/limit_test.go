package redisstore_test

import (
	"errors"
	"testing"
	"time"

	"holdline/mom"
	"holdline/mom/redisstore"
)

// Limits hold for all replayers together, for as long as they are set.
func TestLimits(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		other := newEnv(t, e.cfg)
		for range 20 {
			e.add()
		}
		limited := func(by *env) time.Duration {
			t.Helper()
			leases, err := by.Lease(e.ctx, e.shard, 5, time.Hour)
			var limit *mom.LimitedError
			if !errors.As(err, &limit) || len(leases) > 0 || limit.Wait <= 0 {
				t.Fatalf("lease: got %d, %v, want a LimitedError with a wait", len(leases), err)
			}
			return limit.Wait
		}
		take := func(by *env, n, want int) []mom.Lease {
			t.Helper()
			leases, err := by.Lease(e.ctx, e.shard, n, time.Hour)
			if err != nil || len(leases) != want {
				t.Fatalf("lease of %d: got %d, %v, want %d", n, len(leases), err, want)
			}
			return leases
		}

		e.ok(e.Limit(e.ctx, e.shard, mom.Limits{Running: 3}))
		first := take(e, 2, 2)
		take(other, 5, 1)
		limited(e)
		limited(other)
		e.ok(e.Settle(e.ctx, first[0], success("done")))
		take(other, 5, 1)

		e.ok(e.Limit(e.ctx, e.shard, mom.Limits{PerSecond: 0.5})) // other tests check the rate itself
		take(e, 5, 0+1)
		if wait := limited(other); wait > 2*time.Second {
			t.Errorf("wait: got %s, want at most the time of one task", wait)
		}
		depth, err := e.Depth(e.ctx, e.shard)
		if e.ok(err); depth.Limits != (mom.Limits{PerSecond: 0.5}) {
			t.Errorf("limits: got %+v", depth.Limits)
		}

		e.ok(e.Limit(e.ctx, e.shard, mom.Limits{}))
		take(e, 100, 15)
		take(e, 1, 0) // an empty queue is not limited
		if depth, err = e.Depth(e.ctx, e.shard); err != nil || depth.Limits != (mom.Limits{}) {
			t.Errorf("limits: got %+v, %v, want none", depth.Limits, err)
		}
	})
}

// New tasks are leased as they come, as far as the limits allow: the others wait.
func TestLimitsOfNewTasks(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		add := func(limits mom.Limits, want int) {
			t.Helper()
			e.ok(e.Limit(e.ctx, e.shard, limits))
			tasks := []mom.NewTask{e.task(), e.task(), e.task()}
			added, refused, leases, err := e.AddAndLease(e.ctx, e.shard, tasks, room, time.Hour)
			if limit := (*mom.LimitedError)(nil); len(leases) != want || errors.As(err, &limit) != (want == 0) {
				t.Errorf("%+v: got %d leases, %v, want %d", limits, len(leases), err, want)
			}
			for i, one := range added {
				state := queued
				if i < want {
					state = running
				}
				e.ok(refused[i])
				e.wantState(one.ID, state)
			}
			e.ok(e.Limit(e.ctx, e.shard, mom.Limits{}))
			e.order() // of what is left
		}
		add(mom.Limits{}, 3)
		add(mom.Limits{Running: 5}, 2)
		add(mom.Limits{Running: 5}, 0)
		add(mom.Limits{PerSecond: 0.001}, 1)
	})
}

// As time passes, a rate allows more leases.
func TestRate(t *testing.T) {
	onEachWith(t, redisstore.Config{}, func(t *testing.T, e *env) {
		for range 300 {
			e.add()
		}
		e.ok(e.Limit(e.ctx, e.shard, mom.Limits{PerSecond: 100}))
		got := 0
		began := time.Now()
		until(t, "150 tasks are allowed", func() bool {
			leases, err := e.Lease(e.ctx, e.shard, 300, time.Hour)
			if limit := (*mom.LimitedError)(nil); err != nil && !errors.As(err, &limit) {
				t.Fatal(err)
			}
			got += len(leases)
			return got >= 150
		})
		if most := 2 + int(100*time.Since(began).Seconds()); got > most {
			t.Errorf("got %d in %s, want at most %d", got, time.Since(began), most)
		}
	})
}
