package mom

import (
	"context"
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
// nothing. Doubt may be called by many, as well may be read, and the rest is the shard's replayer's.
type demand struct {
	store    depthStore
	shard    Shard
	doubtful atomic.Bool
	well     atomic.Bool // the service answers, as far as is known, and so does the store
	asked    time.Time
	depth    Depth // as the store said last
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
		d.depth = depth
	}
	return d.waits()
}

// waits tells whether tasks waited when the store was asked last.
func (d *demand) waits() bool { return d.depth.Queued+d.depth.Retrying > 0 }

// paused tells whether replay of the shard was paused when the store was asked last.
func (d *demand) paused() bool { return d.depth.Paused }
