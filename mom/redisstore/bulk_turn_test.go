package redisstore

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Batches of all shards together leave time to other commands.
func TestBulkLeavesTimeToOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const shards, batches, each = 4, 10, 10 * time.Millisecond
		const unknown = 2 * shards // may begin before it is known how long a batch takes
		var b bulk
		began := time.Now()
		var working sync.WaitGroup
		for range shards {
			working.Go(func() {
				for range batches {
					err := b.run(context.Background(), func() error {
						<-time.After(each)
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		working.Wait()
		if took, least := time.Since(began), (shards*batches-unknown)*bulkShare*each; took < least {
			t.Errorf("all after %v, want %v at least", took, least)
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if b.run(ended, func() error { return nil }) == nil {
			t.Error("a batch began after its context ended")
		}
	})
}
