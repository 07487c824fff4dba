package redisstore

import (
	"context"
	"sync"
	"time"
)

const (
	// bulkBatch is how many tasks a script leads to another state at most: BULK in Lua.
	bulkBatch = 25
	// bulkShare is the part of its time that Redis has for a bulk: one in so many.
	bulkShare = 4
	// longestBatch bounds the pause after a batch that had to wait for others.
	longestBatch = 50 * time.Millisecond
)

// bulk spaces out the batches of what happens to many tasks at once, in all shards together:
// tasks expire, callers leave, an operator retries what is dead. Each batch is followed by a
// pause in which Redis is there for others. It is safe for concurrent use.
type bulk struct {
	mu   sync.Mutex
	next time.Time     // when the next batch may begin
	took time.Duration // what the last one took
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
