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
