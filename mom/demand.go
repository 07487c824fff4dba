package mom

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// demandPause is the least time between two questions whether a queue still has tasks.
const demandPause = time.Second

// depthStore is what those need of the store who count tasks.
type depthStore interface {
	// Depth counts a shard.
	Depth(ctx context.Context, shard Shard) (Depth, error)
}

// demand knows whether tasks of a shard wait for their service, while nobody replays them. The
// store is asked only when one may have left the queue, so an outage of many services costs it
// nothing. Doubt, add and waiting may be called by many, as well may be read, and the rest is the shard's replayer's.
type demand struct {
	store    depthStore
	shard    Shard
	doubtful atomic.Bool
	well     atomic.Bool // the service answers, as far as is known, and so does the store
	asked    time.Time

	mu    sync.Mutex
	depth Depth     // as the store said last
	said  time.Time // when
	added int64     // stored here since then
	first time.Time // the first of those
}

// doubt says that the queue may be empty by now.
func (d *demand) doubt() { d.doubtful.Store(true) }

// begin asks anew with the next question.
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

// add tells of a task that was stored here.
func (d *demand) add() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.added++; d.added == 1 {
		d.first = time.Now()
	}
}

// waiting is how many tasks wait, and for how long the oldest of them does, as far as is
// known without asking: those are missing that another MOM has stored since.
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
