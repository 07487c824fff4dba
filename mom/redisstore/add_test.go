package redisstore_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/mom"
	"holdline/mom/redisstore"
)

func TestAddThenGet(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		want := e.task()
		added, err := e.Add(e.ctx, want)
		if err != nil || added.ID != want.ID || added.Attached {
			t.Fatalf("add: got %+v, %v, want %v, not attached", added, err, want.ID)
		}
		task, answer, err := e.Get(e.ctx, want.ID)
		e.ok(err)
		if answer != nil {
			t.Errorf("answer: got %v, want none", answer)
		}
		if task.Id != want.ID.String() || task.Procedure != want.Call.Procedure || task.Caller != e.caller ||
			task.State != queued || task.Attempts != 0 || task.Cause != want.Cause {
			t.Errorf("got %v", task)
		}
		if life := task.ExpireTime.AsTime().Sub(task.CreateTime.AsTime()); life != want.TTL {
			t.Errorf("time to live: got %v, want %v", life, want.TTL)
		}
		if task.EndTime != nil || task.NextAttemptTime != nil || task.AnswerExpireTime != nil {
			t.Errorf("times of what has not happened: %v", task)
		}
		lease := e.lease()
		if lease.ID != want.ID || lease.Attempts != 0 || !lease.Repeatable || !proto.Equal(lease.Call, want.Call) {
			t.Errorf("lease: got %+v", lease)
		}
		if lease.Remaining <= 0 || lease.Remaining > want.TTL {
			t.Errorf("remaining: got %v of %v", lease.Remaining, want.TTL)
		}
	})
}

func TestAddTwiceStoresOnce(t *testing.T) {
	for _, key := range []string{"", "hash"} {
		t.Run("key="+key, func(t *testing.T) {
			onEach(t, func(t *testing.T, e *env) {
				task := e.task()
				task.KeyHash, task.Fingerprint = key, "print"
				for i := range 2 {
					added, err := e.Add(e.ctx, task)
					if err != nil || added.ID != task.ID || added.Attached || added.Known != (i > 0) {
						t.Fatalf("add %d: got %+v, %v", i, added, err)
					}
				}
				leases, err := e.Lease(e.ctx, e.shard, 9, time.Hour)
				if err != nil || len(leases) != 1 {
					t.Fatalf("queued: got %d, %v, want 1", len(leases), err)
				}
				e.ok(e.Settle(e.ctx, leases[0], success("done")))
				added, err := e.Add(e.ctx, task)
				if err != nil || added.ID != task.ID || added.Attached || !added.Known {
					t.Fatalf("add after the end: got %+v, %v", added, err)
				}
				e.wantState(task.ID, succeeded)
				if got := e.order(); len(got) != 0 {
					t.Errorf("queued after the end: got %d, want none", len(got))
				}
			})
		})
	}
}

// An offer is what a header says, and may be any number.
func TestOfferBelowZero(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		id := e.add(func(task *mom.NewTask) { task.Offer = -1 })
		e.ok(e.Settle(e.ctx, e.lease(), success("done")))
		e.wantAnswer(id, success("done"))
	})
}

func TestKeyAttachesOrConflicts(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		first := e.add(keyed("hash", "print"))
		again := func() (mom.Added, error) {
			task := e.task()
			keyed("hash", "print")(&task)
			return e.Add(e.ctx, task)
		}
		if added, err := again(); err != nil || !added.Attached || added.ID != first {
			t.Errorf("same request: got %+v, %v, want attached to %v", added, err, first)
		}
		other := e.task()
		keyed("hash", "another print")(&other)
		if _, err := e.Add(e.ctx, other); !errors.Is(err, mom.ErrKeyReused) {
			t.Errorf("other request: got %v, want ErrKeyReused", err)
		}
		e.ok(e.Settle(e.ctx, e.lease(), success("done")))
		if added, err := again(); err != nil || !added.Attached || added.ID != first {
			t.Errorf("after the end: got %+v, %v, want attached", added, err)
		}
		left := e.task()
		keyed("left", "print")(&left)
		for range 2 { // once it is cancelled, too
			if added, err := e.Add(e.ctx, left); err != nil || added.ID != left.ID {
				t.Errorf("cancelled: got %+v, %v, want attached", added, err)
			}
			e.ok(e.Cancel(e.ctx, left.ID))
			left.ID, left.KeyHash = e.id(), "left"
			added, err := e.Add(e.ctx, left)
			if err != nil || !added.Attached {
				t.Errorf("its key: got %+v, %v, want attached", added, err)
			}
			left.ID = added.ID
		}
		if got := e.add(keyed("another hash", "print")); got == first {
			t.Error("another key attached")
		}
	})
}

// The key lives as long as the record, and no longer.
func TestKeyIsFreeAfterTheTombstone(t *testing.T) {
	onEachWith(t, redisstore.Config{TombstoneTTL: 20 * time.Millisecond}, func(t *testing.T, e *env) {
		first := e.add(keyed("hash", "print"), answerTTL(20*time.Millisecond))
		e.ok(e.Settle(e.ctx, e.lease(), success("done")))
		e.reapUntil("nothing is left of the key", func() bool {
			left, err := e.do("EXISTS", e.key("i:hash")).AsInt64()
			e.ok(err)
			return left == 0
		})
		if got := e.add(keyed("hash", "another print")); got == first {
			t.Error("attached to a task that is gone")
		}
	})
}

// A key whose task is gone names no task, although the key is still stored.
func TestKeyWithoutItsTask(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		first := e.add(keyed("hash", "print"))
		e.ok(e.do("DEL", e.key("t:"+first.ULID.String())).Error())
		second := e.add(keyed("hash", "another print"))
		if second == first {
			t.Error("attached to a task that is gone")
		}
		if got := e.add(keyed("hash", "another print")); got != second {
			t.Errorf("attached to %v, want %v", got, second)
		}
		if got := e.order(); len(got) != 1 {
			t.Errorf("leased: got %d, want only the new one", len(got))
		}
	})
}

func TestQueueFull(t *testing.T) {
	onEachWith(t, redisstore.Config{MaxQueued: 2}, func(t *testing.T, e *env) {
		e.add(keyed("hash", "print"))
		second := e.add()
		if _, err := e.Add(e.ctx, e.task()); !errors.Is(err, mom.ErrQueueFull) {
			t.Fatalf("third: got %v, want ErrQueueFull", err)
		}
		lease := e.lease()
		if _, err := e.Add(e.ctx, e.task()); !errors.Is(err, mom.ErrQueueFull) {
			t.Fatalf("a leased task counts: got %v, want ErrQueueFull", err)
		}
		again := e.task()
		again.ID = second
		if _, err := e.Add(e.ctx, again); err != nil {
			t.Errorf("a stored one again: %v", err)
		}
		attached := e.task()
		keyed("hash", "print")(&attached)
		if _, err := e.Add(e.ctx, attached); err != nil {
			t.Errorf("attaching: %v", err)
		}
		e.ok(e.Settle(e.ctx, lease, success("done")))
		e.add()
	})
}

func TestAddRefusesNoTTL(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		for _, change := range []func(*mom.NewTask){ttl(0), answerTTL(0), ttl(-time.Second)} {
			task := e.task()
			change(&task)
			if _, err := e.Add(e.ctx, task); err == nil {
				t.Errorf("ttl %v, answer ttl %v: no error", task.TTL, task.AnswerTTL)
			}
		}
		if keys := e.existing(); len(keys) != 0 {
			t.Errorf("stored: %v", keys)
		}
	})
}

// Long texts are cut between characters; long names are kept.
func TestLongTexts(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		name := "/test.v1.Service/" + strings.Repeat("Long", 30)
		id := e.add(func(task *mom.NewTask) {
			task.Cause = strings.Repeat("ä", 50)
			task.Call.Procedure = name
		})
		_, err := e.Spend(e.ctx, e.lease(), "bad \xff "+strings.Repeat("x", 100), 0, 9)
		e.ok(err)
		task := e.get(id)
		if task.Cause != strings.Repeat("ä", 30) || task.Procedure != name || task.LastFailure != "bad ? "+strings.Repeat("x", 54) {
			t.Errorf("got cause %q, failure %q, procedure %q", task.Cause, task.LastFailure, task.Procedure)
		}
	})
}

func TestGetUnknown(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		if _, _, err := e.Get(e.ctx, e.id()); !errors.Is(err, mom.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	})
}

func TestList(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		const n = 450 // more than two pages of the store's own
		ids := make([]contract.TaskID, n)
		for i := range ids {
			ids[i] = e.add()
		}
		// IDs of the same millisecond are not in the order of their creation.
		slices.SortFunc(ids, func(a, b contract.TaskID) int { return a.ULID.Compare(b.ULID) })
		e.caller = "somebody else"
		e.add()
		e.ok(e.Cancel(e.ctx, ids[7]))

		var all []string
		for before := ""; ; {
			tasks, next, err := e.List(e.ctx, e.shard, "anonymous", before, 70, nil)
			e.ok(err)
			for _, task := range tasks {
				all = append(all, task.Id)
			}
			if next == "" {
				break
			}
			before = next
		}
		if len(all) != n {
			t.Fatalf("listed: got %d, want %d", len(all), n)
		}
		for i, id := range ids {
			if all[n-1-i] != id.String() {
				t.Fatalf("place %d: got %s, want %s", n-1-i, all[n-1-i], id)
			}
		}
		tasks, _, err := e.List(e.ctx, e.shard, "anonymous", "", 10, []momv1.TaskState{cancelled, dead})
		if err != nil || len(tasks) != 1 || tasks[0].Id != ids[7].String() {
			t.Errorf("by state: got %v, %v, want the cancelled one", tasks, err)
		}
		tasks, _, err = e.List(e.ctx, e.shard, "nobody", "", 10, nil)
		if err != nil || len(tasks) != 0 {
			t.Errorf("nobody's: got %v, %v, want none", tasks, err)
		}
	})
}
