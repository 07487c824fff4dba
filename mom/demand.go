package mom

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// demandPause is the minimum time between two questions whether a queue still has tasks.
const demandPause = time.Second

// depthStore has the method of the store that counts tasks.
type depthStore interface {
	// Depth counts a shard.
	Depth(ctx context.Context, shard Shard) (Depth, error)
}

// demand knows whether tasks of a shard wait for their service, while nobody replays them. It
// asks the store only when a task may have left the queue, so an outage of many services costs the store
// nothing. doubt, add and waiting may be called, and well may be read, by many goroutines at once. Only the shard's replayer uses the rest.
type demand struct {
	store    depthStore
	shard    Shard
	doubtful atomic.Bool
	well     atomic.Bool // the service answers, as far as is known, and so does the store
	asked    time.Time

	mu    sync.Mutex
	depth Depth     // as the store returned it last
	said  time.Time // when the store returned it
	added int64     // tasks stored by this MOM since then
	first time.Time // when the first of these tasks was stored
}

// doubt is called when the queue may be empty by now.
func (d *demand) doubt() { d.doubtful.Store(true) }

// begin has the next call of there ask the store.
func (d *demand) begin() {
	d.asked = time.Time{}
	d.doubt()
}

// there tells whether there are tasks, as far as is known. If the store does not answer, we assume that
// there still are.
func (d *demand) there(ctx context.Context) bool {
	if time.Since(d.asked) >= demandPause && d.doubtful.Swap(false) {
		d.asked = time.Now()
		depth, err := d.store.Depth(ctx, d.shard)
		if err != nil {
			d.doubt()
			return true
		}
		d.hear(depth)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.depth.Queued+d.depth.Retrying > 0
}

func (d *demand) hear(depth Depth) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.depth, d.said, d.added = depth, time.Now(), 0
}

// add counts a task that this MOM has stored.
func (d *demand) add() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.added++; d.added == 1 {
		d.first = time.Now()
	}
}

// waiting returns how many tasks wait, and how long the oldest of them has waited, as far as is
// known without asking the store: tasks that another MOM has stored since the last question are missing.
func (d *demand) waiting() (tasks int64, oldest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.depth.OldestWait > 0:
		oldest = d.depth.OldestWait + time.Since(d.said)
	case d.added > 0:
		oldest = time.Since(d.first)
	}
	return d.depth.Queued + d.depth.Retrying + d.added, oldest
}

// paused tells whether replay of the shard was paused when the store was asked last.
func (d *demand) paused() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.depth.Paused
}
