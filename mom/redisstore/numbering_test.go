package redisstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

const numberedService = "test.v1.Service"

// numberKey is the key of the number of shards.
func (e *env) numberKey() string { return e.cfg.Prefix + "hl:shards:{" + numberedService + "}" }

// numbered makes a task one of the first shard, as a numbering places it.
func numbered(is mom.Numbering, earlier ...int) func(*mom.NewTask) {
	return func(t *mom.NewTask) { t.ID.Shard, t.Epoch, t.Earlier = 0, is.Epoch, earlier }
}

func (e *env) numbering(first int) mom.Numbering {
	e.t.Helper()
	is, err := e.Numbering(e.ctx, numberedService, first)
	e.ok(err)
	return is
}

// The first number is kept, even when others come with another number. It is written so that the
// release before can read it.
func TestFirstNumberIsKept(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		if _, err := e.Numbering(e.ctx, numberedService, 0); !errors.Is(err, mom.ErrNotFound) {
			t.Fatalf("without a first number: got %v, want ErrNotFound", err)
		}
		for _, first := range []int{3, 5, 0} {
			if is := e.numbering(first); is.Shards != 3 || is.Epoch != 0 || is.All() != 3 {
				t.Errorf("first %d: got %+v, want 3 shards", first, is)
			}
		}
		if got, err := e.do("GET", e.numberKey()).ToString(); err != nil || got != "3" {
			t.Errorf("in the store: got %q, %v, want 3", got, err)
		}
	})
}

// A task that was placed by an earlier number is found in its shard, by its ID and by its key,
// and is not stored again. An Add that does not know the change stores nothing.
func TestRenumberWhileTasksWait(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		before := e.numbering(1)
		byID := e.add(numbered(before))
		byKey := e.add(numbered(before), keyed("key", "print"))
		after, err := e.Renumber(e.ctx, numberedService, 4)
		e.ok(err)
		if after.Shards != 4 || after.Epoch == before.Epoch || len(after.Earlier) != 1 || after.Earlier[0] != 1 {
			t.Fatalf("after: got %+v, want 4 shards, and 1 before", after)
		}
		again, err := e.Renumber(e.ctx, numberedService, 4)
		e.ok(err)
		if again.Epoch != after.Epoch {
			t.Errorf("again: got %+v, want nothing changed", again)
		}

		late := e.task()
		numbered(before)(&late)
		if _, err := e.Add(e.ctx, late); !errors.Is(err, mom.ErrMoved) {
			t.Errorf("placed by the number of before: got %v, want ErrMoved", err)
		}
		place := func(shard int, change ...func(*mom.NewTask)) mom.Added {
			t.Helper()
			task := e.task()
			numbered(after, 0)(&task)
			task.ID.Shard = shard
			for _, c := range change {
				c(&task)
			}
			added, err := e.Add(e.ctx, task)
			e.ok(err)
			return added
		}
		if got := place(2, func(n *mom.NewTask) { n.ID.ULID = byID.ULID }); got.ID != byID || !got.Known {
			t.Errorf("the same ULID: got %+v, want %s known", got, byID)
		}
		if got := place(2, keyed("key", "print")); got.ID != byKey || !got.Attached {
			t.Errorf("the same key: got %+v, want it attached to %s", got, byKey)
		}
		reused := e.task()
		numbered(after, 0)(&reused)
		reused.ID.Shard = 2
		keyed("key", "other")(&reused)
		if _, err := e.Add(e.ctx, reused); !errors.Is(err, mom.ErrKeyReused) {
			t.Errorf("the key with another request: got %v, want ErrKeyReused", err)
		}
		fresh := place(2)
		if fresh.Known || fresh.Attached || fresh.ID.Shard != 2 {
			t.Errorf("a new task: got %+v, want it stored in its shard", fresh)
		}

		// A caller whose connection was lost is back: its task is stored anew, in the same shard.
		lost := e.task()
		lost.ID.Shard, lost.Epoch = 3, after.Epoch
		_, err = e.Add(e.ctx, lost)
		e.ok(err)
		e.ok(e.Abandon(e.ctx, mom.ShardOf(lost.ID), []mom.Departure{{ID: lost.ID, Lost: true}}))
		back, err := e.Renumber(e.ctx, numberedService, 2)
		e.ok(err)
		if back.All() != 4 {
			t.Errorf("fewer shards: got %+v, want all of the earlier ones kept", back)
		}
		offered := lost
		offered.ID.Shard, offered.Epoch, offered.Earlier = 1, back.Epoch, []int{3, 0}
		got, err := e.Add(e.ctx, offered)
		e.ok(err)
		e.wantState(lost.ID, queued)
		if got.ID != lost.ID {
			t.Errorf("offered again: got %s, want %s", got.ID, lost.ID)
		}
	})
}

// A change that stopped midway is completed by the next reader, wherever it stopped. Until then
// no task can be stored by both numbers.
func TestRenumberBrokenOff(t *testing.T) {
	t.Parallel()
	const change = `{"shards":2,"epoch":0,"next":{"shards":3,"epoch":1}}`
	for closed := range 4 {
		t.Run(fmt.Sprintf("%d shards closed", closed), func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, redisstore.Config{URL: redistest.Start(t)})
			before := e.numbering(2)
			waits := e.add(numbered(before))
			e.ok(e.do("SET", e.numberKey(), change).Error())
			for i := range closed {
				e.ok(e.do("SET", fmt.Sprintf("%shl:{%s#%d}:numbering", e.cfg.Prefix, numberedService, i), "1").Error())
			}
			// Until the change begins in the shards, the old place takes the task; after that it does not.
			task := e.task()
			numbered(before)(&task)
			_, err := e.Add(e.ctx, task)
			if stored := err == nil; stored == (closed > 0) {
				t.Fatalf("placed by the number of before: got %v", err)
			}
			is := e.numbering(0)
			if is.Shards != 3 || is.Epoch != 1 {
				t.Fatalf("got %+v, want the change ended", is)
			}
			if _, err := e.Add(e.ctx, func() mom.NewTask { n := e.task(); numbered(before)(&n); return n }()); !errors.Is(err, mom.ErrMoved) {
				t.Errorf("placed by the number of before: got %v, want ErrMoved", err)
			}
			again := mom.NewTask{ID: waits, Epoch: is.Epoch, Earlier: []int{0}, Call: task.Call, TTL: time.Hour, AnswerTTL: time.Hour}
			again.ID.Shard = 2
			if added, err := e.Add(e.ctx, again); err != nil || added.ID != waits {
				t.Errorf("offered again: got %+v, %v, want %s", added, err, waits)
			}
			for shard := range 3 {
				if got := e.add(numbered(is), func(n *mom.NewTask) { n.ID.Shard = shard }); got.Shard != shard {
					t.Errorf("a new task: got %s, want shard %d", got, shard)
				}
			}
		})
	}
}

// When operators change the number at the same time, all succeed, and one of their numbers remains.
func TestRenumberAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		e.numbering(1)
		var operators errgroup.Group
		for i := range 8 {
			operators.Go(func() error {
				_, err := e.Renumber(e.ctx, numberedService, 2+3*(i%2))
				return err
			})
		}
		e.ok(operators.Wait())
		if is := e.numbering(0); is.Shards != 2 && is.Shards != 5 {
			t.Errorf("got %+v, want 2 or 5 shards", is)
		}
		is := e.numbering(0)
		e.add(numbered(is), func(n *mom.NewTask) { n.ID.Shard = 1 })
	})
}

// A node that failed may have lost its part of a change, although it acknowledged it. Soon after,
// tasks can be stored again.
func TestLostPartOfChange(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redisstore.Config{URL: redistest.Start(t)})
	e.numbering(1)
	after, err := e.Renumber(e.ctx, numberedService, 2)
	e.ok(err)
	store := func() {
		t.Helper()
		for range 5 {
			task := e.task()
			numbered(e.numbering(0), 0)(&task)
			task.ID.Shard = 1
			if _, err = e.Add(e.ctx, task); !errors.Is(err, mom.ErrMoved) {
				break
			}
		}
		e.ok(err)
	}
	e.ok(e.do("DEL", fmt.Sprintf("%shl:{%s#1}:numbering", e.cfg.Prefix, numberedService)).Error())
	store()
	if is := e.numbering(0); is.Epoch != after.Epoch {
		t.Errorf("a shard without its epoch: got %+v, want the number unchanged", is)
	}
	e.ok(e.do("SET", e.numberKey(), "2").Error())
	store()
	if is := e.numbering(0); is.Epoch <= after.Epoch || is.Shards != 2 {
		t.Errorf("a number without its epoch: got %+v, want a later epoch than %d", is, after.Epoch)
	}
}

// An earlier number is forgotten once no task that was placed by it can be left, but not while a
// shard that only this number has holds tasks.
func TestEarlierNumberIsForgotten(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redisstore.Config{URL: redistest.Start(t)})
	set := func(until int64) mom.Numbering {
		t.Helper()
		e.ok(e.do("SET", e.numberKey(), fmt.Sprintf(`{"shards":1,"epoch":2,"earlier":[{"shards":4,"until":%d},{"shards":2,"until":1000}]}`, until)).Error())
		return e.numbering(0)
	}
	if is := set(time.Now().UnixMilli()); fmt.Sprint(is.Earlier) != "[4]" {
		t.Errorf("got %+v, want the older number forgotten", is)
	}
	e.ok(e.do("SET", fmt.Sprintf("%shl:{%s#3}:numbering", e.cfg.Prefix, numberedService), "2").Error())
	waits := e.add(func(n *mom.NewTask) { n.ID.Shard, n.Epoch = 3, 2 })
	if is := set(1000); is.All() != 4 {
		t.Errorf("got %+v, want the shards kept that have tasks", is)
	}
	e.ok(e.Cancel(e.ctx, waits))
	if is := set(1000); is.All() != 1 || len(is.Earlier) != 0 {
		t.Errorf("got %+v, want nothing earlier", is)
	}
}

// A number that cannot be read is an error that says so, only for its service.
func TestNumberUnread(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redisstore.Config{URL: redistest.Start(t)})
	for _, bad := range []string{"many", "0", "65", `{"shards":-1}`, `{"epoch":1}`} {
		e.ok(e.do("SET", e.numberKey(), bad).Error())
		if is, err := e.Numbering(e.ctx, numberedService, 1); err == nil || errors.Is(err, mom.ErrUnavailable) {
			t.Errorf("%s: got %+v, %v, want an error", bad, is, err)
		}
	}
	e.ok(e.Check(e.ctx))
	if is, err := e.Numbering(e.ctx, "other.v1.Service", 1); err != nil || is.Shards != 1 {
		t.Errorf("another service: got %+v, %v, want one shard", is, err)
	}
}

// Services are listed with the epochs that were registered last.
func TestServicesAreListed(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		got, err := e.Services(e.ctx)
		if err != nil || len(got) != 0 {
			t.Fatalf("at first: got %v, %v, want none", got, err)
		}
		e.ok(e.Register(e.ctx, nil))
		e.ok(e.Register(e.ctx, map[string]int64{"a.v1.A": 0, "b.v1.B": 2}))
		e.ok(e.Register(e.ctx, map[string]int64{"a.v1.A": 1}))
		got, err = e.Services(e.ctx)
		if err != nil || len(got) != 2 || got["a.v1.A"] != 1 || got["b.v1.B"] != 2 {
			t.Errorf("got %v, %v, want both with their last epochs", got, err)
		}
	})
}

// A store that an older release began has no list: its services are found by their numbers.
func TestServicesOfOlderRelease(t *testing.T) {
	onEachWith(t, redisstore.Config{Prefix: "a[b]*c?\\:"}, func(t *testing.T, e *env) {
		for i := range 300 {
			e.ok(e.do("SET", fmt.Sprintf("%shl:shards:{s%d.v1.S}", e.cfg.Prefix, i), "2").Error())
			e.ok(e.do("SET", fmt.Sprintf("%shl:{s%d.v1.S#0}:bytes", e.cfg.Prefix, i), "2").Error())
		}
		for range 2 {
			got, err := e.Services(e.ctx)
			if _, ok := got["s7.v1.S"]; err != nil || len(got) != 300 || !ok {
				t.Errorf("got %v, %v, want all 300", got, err)
			}
		}
	})
}

// In a cluster the shards lie on different nodes, and so does the number.
func TestRenumberInCluster(t *testing.T) {
	t.Parallel()
	e, _, _ := onCluster(t)
	e.numbering(1)
	waits := e.add(numbered(mom.Numbering{}))
	after, err := e.Renumber(e.ctx, numberedService, 8)
	e.ok(err)
	again := e.task()
	again.ID = contract.TaskID{Service: numberedService, Shard: 7, ULID: waits.ULID}
	again.Epoch, again.Earlier = after.Epoch, []int{0}
	if added, err := e.Add(e.ctx, again); err != nil || added.ID != waits {
		t.Errorf("offered again: got %+v, %v, want %s", added, err, waits)
	}
	e.ok(e.do("DEL", e.cfg.Prefix+"hl:services").Error())
	if got, err := e.Services(e.ctx); err != nil || len(got) != 1 {
		t.Errorf("services: got %v, %v, want one", got, err)
	}
	for shard := range 8 {
		e.add(numbered(after), func(n *mom.NewTask) { n.ID.Shard = shard })
	}
}
