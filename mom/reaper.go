package mom

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// heardPause is the longest time until a look at a shard in which something
	// happened. Within this time we find what another MOM has made due, or has left
	// behind when it died.
	heardPause = 5 * time.Second
	// quietPause is the longest time between two looks, in case a message about
	// a transition was lost.
	quietPause = 5 * time.Minute
)

// reapStore is what a reaper needs of the store.
type reapStore interface {
	// Reap does what is due in a shard: it expires tasks whose TTL is over, puts
	// due RETRYING tasks and tasks of ended leases back to the head of the
	// queue (a marked task that is not repeatable becomes UNCERTAIN instead), and rings the bell. The
	// store's clock may jump. So a lease ends only when its time is over and this process
	// has also waited in vain, by its own clock, for its holder to renew it. Parked
	// tasks are given up when they have waited for too long, and the oldest ones
	// also when the parked calls take too much room: the call is dropped, the
	// state stays until the record expires. Reap returns the time until something is
	// next due, a minute at most while tasks wait, since a bell may be lost.
	Reap(ctx context.Context, shard Shard) (Reaped, error)
}

// reaper calls Reap when something is due in one shard: the end of a task's TTL, the end of a lease, or the time
// of a next attempt. Any number of reapers may work on a shard.
type reaper struct {
	store  reapStore
	shard  Shard
	reaped func(Reaped) // called after each look
	log    *slog.Logger

	mu    sync.Mutex
	due   time.Time
	timer *time.Timer
}

func newReaper(store reapStore, shard Shard, reaped func(Reaped), log *slog.Logger) *reaper {
	return &reaper{store: store, shard: shard, reaped: reaped, log: log, due: time.Now(), timer: time.NewTimer(0)}
}

// within makes the reaper look after d at the latest. It is safe for concurrent use.
func (r *reaper) within(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if due := time.Now().Add(d); due.Before(r.due) {
		r.due = due
		r.timer.Reset(d)
	}
}

// Run reaps until ctx ends.
func (r *reaper) Run(ctx context.Context) error {
	defer r.timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.timer.C:
		}
		pause := quietPause/2 + rand.N(quietPause/2) // so that not all shards are reaped at the same time
		r.mu.Lock()
		r.due = time.Now().Add(pause)
		r.timer.Reset(pause)
		r.mu.Unlock()
		reaped, err := r.store.Reap(ctx, r.shard)
		switch {
		case err != nil && ctx.Err() == nil:
			r.log.Debug("not reaped", "service", r.shard.Service, "error", err)
			r.within(heardPause)
		case err == nil:
			r.reaped(reaped)
			if reaped.Next >= 0 {
				r.within(max(reaped.Next, time.Millisecond))
			}
		}
	}
}
