package mom

import (
	"context"
	"sync/atomic"
	"time"
)

// demandPause is the least time between two questions whether a queue still has tasks.
const demandPause = time.Second

// demand knows whether tasks of a shard wait for their service, while nobody replays them. The
// store is asked only when one may have left the queue, so an outage of many services costs it
// nothing. Doubt may be called by many, the rest by the shard's replayer.
type demand struct {
	store    Store
	shard    Shard
	doubtful atomic.Bool
	asked    time.Time
	depth    Depth
}

// doubt says that the queue may be empty by now.
func (d *demand) doubt() { d.doubtful.Store(true) }

// begin asks anew with the next question.
func (d *demand) begin() {
	d.asked = time.Time{}
	d.doubt()
}

// there tells whether there are tasks, as far as is known: those of a store that does not say
// are still there.
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
	return d.depth.Queued+d.depth.Retrying > 0
}
