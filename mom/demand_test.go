package mom

import (
	"testing"
	"testing/synctest"
	"time"
)

// Whether tasks wait is asked when one may have left, and once in a second at most.
func TestDemandAsksOnlyInDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.queue(testLeases(3)...)
		d := &demand{store: store, shard: ShardOf(testID())}
		ask := func(what string, there bool, asked int) {
			t.Helper()
			if got := d.there(t.Context()); got != there {
				t.Errorf("%s: tasks are there: got %v, want %v", what, got, there)
			}
			if n := store.times("depth"); n != asked {
				t.Errorf("%s: asked the store %d times, want %d", what, n, asked)
			}
		}
		d.begin()
		ask("at the beginning", true, 1)
		time.Sleep(time.Hour)
		ask("without doubt", true, 0)
		d.doubt()
		ask("in doubt", true, 1)
		d.doubt()
		ask("in doubt again, at once", true, 0)
		time.Sleep(demandPause)
		store.ready = nil
		ask("a second later", false, 1)
		d.begin()
		store.fail = func(string) error { return ErrUnavailable }
		ask("a store that does not say", true, 1)
		store.fail = nil
		time.Sleep(demandPause)
		ask("and that does", false, 1)
	})
}

// What is stored here counts at once, until the store says how many there are.
func TestDemandCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &demand{}
		check := func(tasks int64, oldest time.Duration) {
			t.Helper()
			if gotTasks, gotOldest := d.waiting(); gotTasks != tasks || gotOldest != oldest {
				t.Errorf("got %d tasks, the oldest for %v, want %d, %v", gotTasks, gotOldest, tasks, oldest)
			}
		}
		check(0, 0)
		d.add()
		time.Sleep(time.Second)
		d.add()
		check(2, time.Second)
		d.hear(Depth{Queued: 3, Retrying: 1, OldestWait: time.Minute, Paused: true})
		time.Sleep(time.Second)
		d.add()
		check(5, time.Minute+time.Second)
		if !d.paused() {
			t.Error("the queue is paused: got that it is not")
		}
	})
}
