package mom

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// runReaper runs a reaper and tells at which times after the start it has looked.
func runReaper(t *testing.T, store *fakeStore) (r *reaper, looks func() []time.Duration) {
	t.Helper()
	log, _ := discard()
	var mu sync.Mutex
	start, seen := time.Now(), []time.Duration{}
	r = newReaper(store, ShardOf(testID()), func(Reaped) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, time.Since(start))
	}, log)
	inBackground(t, r.Run)
	return r, func() []time.Duration {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

// A reaper looks when it starts, and then when the store says that something is due.
func TestReaperLooksWhenSomethingIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.reap = Reaped{Next: 7 * time.Second}
		_, looks := runReaper(t, store)
		time.Sleep(20 * time.Second)
		if got, want := looks(), []time.Duration{0, 7 * time.Second, 14 * time.Second}; !slices.Equal(got, want) {
			t.Errorf("looks after %v, want %v", got, want)
		}
	})
}

// Where nothing is due it leaves the store alone for minutes, but not for ever; who knows better has it look earlier,
// and never later.
func TestReaperOfAQuietShard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.reap = Reaped{Next: -1}
		r, looks := runReaper(t, store)
		time.Sleep(quietPause/2 - time.Second)
		if n := len(looks()); n != 1 {
			t.Errorf("%d looks within half of %v, want 1", n, quietPause)
		}
		time.Sleep(quietPause/2 + time.Second)
		if n := len(looks()); n < 2 {
			t.Errorf("%d looks within %v, want 2 at least", n, quietPause)
		}
		before := len(looks())
		r.within(time.Second)
		r.within(time.Hour)
		time.Sleep(time.Second)
		if n := len(looks()) - before; n != 1 {
			t.Errorf("%d looks within a second of being told, want 1", n)
		}
	})
}

// A store that does not answer is asked again soon, and what it has not said is told to nobody.
func TestReaperOfAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.reap = Reaped{Next: -1}
		away := &fault{err: ErrUnavailable}
		store.fail = away.of("reap")
		_, looks := runReaper(t, store)
		time.Sleep(3*heardPause - time.Second)
		if n := store.times("reap"); n != 3 || len(looks()) != 0 {
			t.Errorf("while it is away: asked %d times, told of %d looks, want 3 and none", n, len(looks()))
		}
		away.set(nil)
		time.Sleep(heardPause)
		if got, want := looks(), []time.Duration{3 * heardPause}; !slices.Equal(got, want) {
			t.Errorf("looks after %v, want %v", got, want)
		}
	})
}
