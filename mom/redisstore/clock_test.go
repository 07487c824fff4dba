package redisstore_test

import (
	"testing"
	"time"

	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// A task that was past its TTL while it ran comes back on a clock that was set
// back: it has its end of life again.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	for name, giveBack := range map[string]func(e *env, lease mom.Lease) error{
		"released": func(e *env, lease mom.Lease) error { return e.Release(e.ctx, lease) },
		"retried": func(e *env, lease mom.Lease) error {
			_, err := e.Retry(e.ctx, lease, "reset", time.Hour, 9)
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
