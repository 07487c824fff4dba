package redisstore_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// No second has more leases than the rate, also after idle time, and however often the rate is
// set. Nearly as many are possible.
func TestRateInAnySecond(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate  float64
		most  int // in any second
		least int // in four
	}{
		{0.5, 1, 2}, {1, 1, 3}, {7.5, 7, 27}, {50, 50, 190}, {400, 400, 1560},
	} {
		t.Run(fmt.Sprint(c.rate), func(t *testing.T) {
			t.Parallel()
			now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
			server, clock := redistest.NewClocked(t, now)
			e := newEnv(t, redisstore.Config{URL: server.URL()})
			limit := mom.Limits{PerSecond: c.rate}
			e.ok(e.Limit(e.ctx, e.shard, limit))
			for range int(4*c.rate) + 1 {
				e.add()
			}
			now = now.Add(time.Minute) // idle
			var at []time.Time         // of each lease
			for began := now; now.Sub(began) < 4*time.Second; now = now.Add(7 * time.Millisecond) {
				clock.Set(t, now)
				e.ok(e.Limit(e.ctx, e.shard, limit))
				leases, err := e.Lease(e.ctx, e.shard, 500, time.Hour)
				if limited := (*mom.LimitedError)(nil); err != nil && !errors.As(err, &limited) {
					t.Fatal(err)
				}
				for range leases {
					at = append(at, now)
				}
			}
			for i := range at {
				if last := i + c.most; last < len(at) && at[last].Sub(at[i]) < time.Second {
					t.Fatalf("%d within %v, want %d in any second at most", c.most+1, at[last].Sub(at[i]), c.most)
				}
			}
			if len(at) < c.least {
				t.Errorf("%d in four seconds, want %d at least", len(at), c.least)
			}
		})
	}
}

// Under a new rate, the leases that were taken under the old one still count.
func TestRateSetAnew(t *testing.T) {
	t.Parallel()
	e, after := clocked(t)
	for range 10 {
		e.add()
	}
	take := func(want int) {
		t.Helper()
		leases, err := e.Lease(e.ctx, e.shard, 10, time.Hour)
		if limited := (*mom.LimitedError)(nil); err != nil && !errors.As(err, &limited) || len(leases) != want {
			t.Fatalf("lease: got %d, %v, want %d", len(leases), err, want)
		}
	}
	for _, rate := range []float64{1, 2, 1, math.Pi} {
		e.ok(e.Limit(e.ctx, e.shard, mom.Limits{PerSecond: rate, Running: 100}))
		take(1)
		e.ok(e.Limit(e.ctx, e.shard, mom.Limits{PerSecond: rate, Running: 50}))
		take(0)
		after(1100 * time.Millisecond)
	}
	e.ok(e.Limit(e.ctx, e.shard, mom.Limits{}))
	if there, err := e.do("EXISTS", e.key("limits")).AsInt64(); err != nil || there != 0 {
		t.Errorf("limits that were lifted: %d, %v, want nothing of them", there, err)
	}
	take(6)
}
