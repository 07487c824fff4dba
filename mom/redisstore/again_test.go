package redisstore_test

import (
	"slices"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/mom"
)

// A lease takes at most Again tasks that have failed before, and passes over the rest of them. If
// it finds no others, it takes one that has failed.
func TestFailedTasksLetOthersPass(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		failed, fresh := e.addFailed(3), []contract.TaskID{e.add(), e.add()}
		for _, c := range []struct {
			n, again int
			want     []contract.TaskID
		}{
			{1, 0, fresh[:1]},
			{3, 1, []contract.TaskID{failed[0], fresh[1]}},
			{2, 0, failed[1:2]},
			{2, 1, failed[2:]},
			{2, 1, nil},
		} {
			leases, _, err := e.Store.Lease(e.ctx, e.shard, mom.Room{Tasks: c.n, Again: c.again, Once: c.n}, time.Hour)
			e.ok(err)
			if got := idsOf(leases); !slices.Equal(got, c.want) {
				t.Fatalf("lease of %d, %d of them again: got %v, want %v", c.n, c.again, got, c.want)
			}
		}
	})
}

// Tasks that were refused keep their places, unless others are asked for.
func TestRefusedTasksLetOthersPass(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		refused := []contract.TaskID{e.add(), e.add()}
		for range refused {
			e.putBack(e.lease(), 0, false)
		}
		e.reapUntil("both are due", func() bool { return e.state(refused[0]) == queued && e.state(refused[1]) == queued })
		fresh := []contract.TaskID{e.add(), e.add(), e.add()}
		for _, c := range []struct {
			n     int
			fresh bool
			want  []contract.TaskID
		}{
			{1, true, fresh[:1]},
			{1, false, refused[:1]},
			{3, true, fresh[1:]},
			{3, true, refused[1:]},
		} {
			leases, _, err := e.Store.Lease(e.ctx, e.shard, mom.Room{Tasks: c.n, Once: c.n, Fresh: c.fresh}, time.Hour)
			e.ok(err)
			if got := idsOf(leases); !slices.Equal(got, c.want) {
				t.Fatalf("lease of %d, fresh %v: got %v, want %v", c.n, c.fresh, got, c.want)
			}
		}
	})
}

// If there is no room for tasks that may not run twice, others are leased before them, and they
// keep their places.
func TestRoomForThoseThatMayRunTwice(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		once, twice := []contract.TaskID{e.add(undeclared), e.add(undeclared)}, []contract.TaskID{e.add(), e.add()}
		for _, c := range []struct {
			room mom.Room
			want []contract.TaskID
		}{
			{mom.Room{Tasks: 1}, twice[:1]},
			{mom.Room{Tasks: 3, Once: 1}, []contract.TaskID{once[0], twice[1]}},
			{mom.Room{Tasks: 3, Again: 3}, nil},
			{mom.Room{Tasks: 3, Once: 3}, once[1:]},
		} {
			leases, _, err := e.Store.Lease(e.ctx, e.shard, c.room, time.Hour)
			e.ok(err)
			if got := idsOf(leases); !slices.Equal(got, c.want) {
				t.Fatalf("lease of %+v: got %v, want %v", c.room, got, c.want)
			}
		}
	})
}

// A task that comes back goes behind all that came before it. An ended task whose id was stored again
// has two places among these.
func TestGivenBackBehindTwoPlaces(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		first, second := e.add(undeclared).ULID.String(), e.add().ULID.String()
		e.ok(e.do("LPUSH", e.key("ready"), first).Error())
		leases, _, err := e.Store.Lease(e.ctx, e.shard, mom.Room{Tasks: 1}, time.Hour)
		if err != nil || len(leases) != 1 {
			t.Fatalf("lease: got %v, %v, want the one that may run twice", leases, err)
		}
		e.ok(e.Release(e.ctx, leases[0]))
		if got, err := e.do("LRANGE", e.key("ready"), "0", "-1").AsStrSlice(); err != nil || !slices.Equal(got, []string{first, first, second}) {
			t.Errorf("the queue is %v, %v, want %s twice and then %s", got, err, first, second)
		}
	})
}

// A task gets its turn, however many tasks that have failed wait before it.
func TestManyFailedTasksStepBehind(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		e.addFailed(250)
		fresh := e.add()
		passed := 0
		until(t, "the other task has its turn", func() bool {
			leases, _, err := e.Store.Lease(e.ctx, e.shard, mom.Room{Tasks: 1}, time.Hour)
			if passed++; err != nil || len(leases) != 1 {
				t.Fatalf("lease: %v, %v, want one", leases, err)
			}
			return leases[0].ID == fresh
		})
		if passed > 3 {
			t.Errorf("%d tasks that have failed went first, want one for each hundred", passed-1)
		}
		if depth, err := e.Depth(e.ctx, e.shard); err != nil || depth.Queued != 251-int64(passed) {
			t.Errorf("depth: %+v, %v, want the others queued", depth, err)
		}
	})
}

// addFailed queues n tasks, each of which has failed once.
func (e *env) addFailed(n int) (ids []contract.TaskID) {
	e.t.Helper()
	for range n {
		ids = append(ids, e.add())
	}
	leases, err := e.Lease(e.ctx, e.shard, n, time.Hour)
	e.ok(err)
	for _, lease := range leases {
		_, err := e.Spend(e.ctx, lease, "reset", 0, 9)
		e.ok(err)
	}
	e.reapUntil("all are due", func() bool { return e.state(ids[n-1]) == queued })
	return ids
}

func idsOf(leases []mom.Lease) (ids []contract.TaskID) {
	for _, lease := range leases {
		ids = append(ids, lease.ID)
	}
	return ids
}
