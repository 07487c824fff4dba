package mom

import (
	"context"
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
// nothing. doubt may be called, and well may be read, by many goroutines at once. Only the shard's replayer uses the rest.
type demand struct {
	store    depthStore
	shard    Shard
	doubtful atomic.Bool
	well     atomic.Bool // the service answers, as far as is known, and so does the store
	asked    time.Time
	depth    Depth // as the store returned it last
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
		d.depth = depth
	}
	return d.waits()
}

// waits reports whether tasks waited when the store was asked last.
func (d *demand) waits() bool { return d.depth.Queued+d.depth.Retrying > 0 }

// paused tells whether replay of the shard was paused when the store was asked last.
func (d *demand) paused() bool { return d.depth.Paused }
