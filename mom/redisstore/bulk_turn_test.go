package redisstore

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Batches of many shards share the time that Redis has for them, and go one by one.
func TestBulkLeavesTimeToOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const batches, each = 40, 10 * time.Millisecond
		const unknown = 8 // what the first of each shard takes is not known yet, and so for the ones after them
		var b bulk
		var at int
		began := time.Now()
		var shards sync.WaitGroup
		for range 4 {
			shards.Go(func() {
				for range batches / 4 {
					err := b.run(context.Background(), func() error {
						at++
						if time.Since(began) < time.Duration(at-unknown)*bulkShare*each {
							t.Errorf("batch %d after %v", at, time.Since(began))
						}
						<-time.After(each)
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		shards.Wait()
		if took, least := time.Since(began), (batches-unknown)*bulkShare*each; took < least {
			t.Errorf("all after %v, want %v at least", took, least)
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if b.run(ended, func() error { return nil }) == nil {
			t.Error("a batch began after its context ended")
		}
	})
}
