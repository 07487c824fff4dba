package mom

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
)

// indexes are those of the shards of a service that a MOM knows.
func indexes(m *MOM, service string) (list []int) {
	for _, shard := range m.shards.of(service) {
		list = append(list, shard.Index)
	}
	return list
}

// A MOM finds the queues that others have begun, and numbers of shards that they have changed, within seconds; and it
// tells the others of its own.
func TestShardsOfOtherMOMs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const own, others = arithmeticv1connect.SumServiceName, "other.v1.Service"
		store := newFakeStore()
		m := newFake(t, store, func(cfg *Config) { cfg.OnHold = true })
		stop := inBackground(t, m.shards.Run)
		synctest.Wait()
		if got, want := store.transitions(), []string{"register map[" + own + ":0]"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		store.mu.Lock()
		store.services = map[string]int64{own: 0, others: 3}
		store.numbers[others] = Numbering{Shards: 2, Epoch: 3, Earlier: []int{4}}
		store.mu.Unlock()
		_, grown := m.shards.all()
		time.Sleep(lookPause)
		synctest.Wait()
		if got, want := indexes(m, others), []int{0, 1, 2, 3}; !slices.Equal(got, want) {
			t.Errorf("shards of another MOM's service: got %v, want those that may have tasks: %v", got, want)
		}
		select {
		case <-grown:
		default:
			t.Error("nobody is told that there are more shards")
		}
		if got := m.shards.services(); !slices.Equal(got, []string{own, others}) {
			t.Errorf("services: got %v", got)
		}
		store.times("numbering " + others)
		time.Sleep(10 * lookPause)
		synctest.Wait()
		if n := store.times("numbering " + others); n != 0 {
			t.Errorf("a number that has not changed was read %d times, want none", n)
		}
		store.mu.Lock()
		store.services = map[string]int64{own: 0, others: 4}
		store.numbers[others] = Numbering{Shards: 6, Epoch: 4}
		store.mu.Unlock()
		time.Sleep(lookPause)
		synctest.Wait()
		if got := len(indexes(m, others)); got != 6 {
			t.Errorf("after a change: got %d shards, want 6", got)
		}
		if is, err := m.shards.numbering(t.Context(), others); err != nil || is.Shards != 6 {
			t.Errorf("number of shards: got %v, %v, want 6", is, err)
		}
		m.resync() // the store may be another
		synctest.Wait()
		if n := store.times("numbering " + others); n != 2 {
			t.Errorf("after a reconnect: the number was read %d times since the change, want again", n)
		}
		stop()
	})
}

// What is wrong with the number of one service keeps nobody from another, and is looked at again soon.
func TestShardsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const broken, fine = "broken.v1.Service", "fine.v1.Service"
		store, wrong := newFakeStore(), &fault{err: errors.New("it is no number")}
		store.services = map[string]int64{broken: 1, fine: 1, "lost.v1.Service": 1}
		store.numbers[broken] = Numbering{Shards: 3, Epoch: 1}
		store.numbers[fine] = Numbering{Shards: 2, Epoch: 1}
		store.fail = wrong.of("numbering " + broken)
		m := newFake(t, store, func(cfg *Config) { cfg.OnHold = true })
		inBackground(t, m.shards.Run)
		synctest.Wait()
		if got := indexes(m, fine); len(got) != 2 || len(indexes(m, broken)) != 0 {
			t.Errorf("got %v and %v, want 2 shards of the service that can be read, none of the other", got, indexes(m, broken))
		}
		wrong.set(nil)
		time.Sleep(missedPause)
		synctest.Wait()
		if got := indexes(m, broken); len(got) != 3 {
			t.Errorf("once it can be read: got %v, want 3 shards", got)
		}
	})
}

// A task of a queue that this MOM has not met may be asked for.
func TestShardsAreMet(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.numbers["other.v1.Service"] = Numbering{Shards: 2, Epoch: 1}
	m := newFake(t, store, nil)
	m.shards.meet(t.Context(), Shard{Service: "other.v1.Service", Index: 1})
	if got := indexes(m, "other.v1.Service"); len(got) != 2 {
		t.Errorf("got %v, want 2 shards", got)
	}
	m.shards.meet(t.Context(), Shard{Service: "lost.v1.Service"})
	if got := indexes(m, "lost.v1.Service"); len(got) != 0 {
		t.Errorf("of a service that the store does not have: got %v, want none", got)
	}
}

// Shards share what a queue allows, to the last task, and each may have one.
func TestShareOfLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		running int64
		want    []int64
	}{{0, []int64{0, 0, 0}}, {1, []int64{1, 1, 1}}, {5, []int64{2, 2, 1}}, {6, []int64{2, 2, 2}}, {1<<32 + 1, []int64{1431655766, 1431655766, 1431655765}}} {
		for place, want := range c.want {
			if got := (Limits{Running: c.running, PerSecond: 6}).share(place, len(c.want)); got != (Limits{Running: want, PerSecond: 2}) {
				t.Errorf("%d at once: shard %d gets %+v, want %d", c.running, place, got, want)
			}
		}
	}
}
