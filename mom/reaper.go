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
	// happened: what another MOM has made due, or left behind when it died, is
	// found within it.
	heardPause = 5 * time.Second
	// quietPause is the longest time between two looks, in case something
	// happened unheard.
	quietPause = 5 * time.Minute
)

// reapStore is what a reaper needs of the store.
type reapStore interface {
	// Reap does what is due in a shard: expires tasks whose TTL is over, puts
	// due RETRYING tasks and those of ended leases back to the head of the
	// queue (UNCERTAIN when marked and not repeatable) and rings the bell. The
	// store's clock may jump: a lease ends when its time is over and this process
	// has waited in vain, by its own clock, for its holder to renew it. Parked
	// tasks are given up when they have waited for as long as they may, the oldest
	// also when their calls take more room than they may: the call is dropped, the
	// state stays until the record expires. It returns the time until something is
	// next due, a minute at most while tasks wait, since a bell may be lost.
	Reap(ctx context.Context, shard Shard) (Reaped, error)
}

// reaper does what falls due in one shard: ends of lives, ends of leases, times
// of next attempts. Any number of them may work on a shard.
type reaper struct {
	store  reapStore
	shard  Shard
	reaped func(Reaped) // hears of each look
	log    *slog.Logger

	mu    sync.Mutex
	due   time.Time
	timer *time.Timer
}

func newReaper(store reapStore, shard Shard, reaped func(Reaped), log *slog.Logger) *reaper {
	return &reaper{store: store, shard: shard, reaped: reaped, log: log, due: time.Now(), timer: time.NewTimer(0)}
}

// within makes the reaper look after d at the latest. It may be called by many.
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
		pause := quietPause/2 + rand.N(quietPause/2) // shards take turns
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
