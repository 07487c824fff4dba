package redisstore

import (
	"context"
	"sync"
	"time"
)

const (
	// bulkBatch is the maximum number of tasks whose state one script changes. Lua calls it BULK.
	bulkBatch = 25
	// bulkShare: batches take about one part in bulkShare of the time of Redis.
	bulkShare = 4
	// longestBatch is the maximum that counts as a batch's own time. If a batch took longer, the rest was time spent waiting.
	longestBatch = 50 * time.Millisecond
)

// bulk spaces out batches that change many tasks, in all shards together: tasks expire, callers
// leave, an operator retries dead tasks. After each batch comes a pause in which Redis serves
// other commands. It is safe for concurrent use.
type bulk struct {
	mu   sync.Mutex
	next time.Time     // when the next batch may begin
	took time.Duration // how long the last batch took
}

// turn waits until a batch may begin.
func (b *bulk) turn(ctx context.Context) error {
	b.mu.Lock()
	at := time.Now()
	if at.Before(b.next) {
		at = b.next
	}
	b.next = at.Add(bulkShare * b.took)
	b.mu.Unlock()
	due := time.NewTimer(time.Until(at))
	defer due.Stop()
	select {
	case <-due.C:
		return nil
	case <-ctx.Done():
		return notSent(ctx.Err())
	}
}

// run runs a batch in its turn.
func (b *bulk) run(ctx context.Context, batch func() error) error {
	if err := b.turn(ctx); err != nil {
		return err
	}
	began := time.Now()
	err := batch()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.took = min(time.Since(began), longestBatch)
	return err
}
