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

// reaper does what falls due in one shard: ends of lives, ends of leases, times
// of next attempts. Any number of them may work on a shard.
type reaper struct {
	store  Store
	shard  Shard
	reaped func(Reaped) // hears of each look
	log    *slog.Logger

	mu    sync.Mutex
	due   time.Time
	timer *time.Timer
}

func newReaper(store Store, shard Shard, reaped func(Reaped), log *slog.Logger) *reaper {
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
