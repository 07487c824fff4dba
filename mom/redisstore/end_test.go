package redisstore_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/mom"
	"holdline/mom/redisstore"
)

const blink = 20 * time.Millisecond

// ways are all ways in which a task ends and is removed in time. Each leads one leased task to
// its end.
var ways = map[string]struct {
	change func(*mom.NewTask)
	end    func(e *env, lease mom.Lease)
	want   momv1.TaskState
}{
	"succeeded": {nil, func(e *env, l mom.Lease) { e.ok(e.Settle(e.ctx, l, success("done"))) }, succeeded},
	"failed":    {nil, func(e *env, l mom.Lease) { e.ok(e.Settle(e.ctx, l, failure("no"))) }, failed},
	"cancelled in the queue": {nil, func(e *env, l mom.Lease) {
		e.ok(e.Release(e.ctx, l))
		e.ok(e.Cancel(e.ctx, l.ID))
	}, cancelled},
	"cancelled while leased": {undeclared, func(e *env, l mom.Lease) { e.ok(e.Cancel(e.ctx, l.ID)) }, cancelled},
	"dismissed when dead": {nil, func(e *env, l mom.Lease) {
		_, err := e.Spend(e.ctx, l, "reset", 0, 1)
		e.ok(err)
		e.ok(e.Dismiss(e.ctx, l.ID))
	}, dead},
	"cancelled when uncertain": {undeclared, func(e *env, l mom.Lease) {
		e.ok(e.Park(e.ctx, l, "cut off"))
		e.ok(e.Cancel(e.ctx, l.ID))
	}, uncertain},
	"expired in the queue": {ttl(blink), func(e *env, l mom.Lease) { e.ok(e.Release(e.ctx, l)) }, expired},
	"expired while retrying": {ttl(blink), func(e *env, l mom.Lease) {
		_, err := e.Spend(e.ctx, l, "reset", time.Hour, 9)
		e.ok(err)
	}, expired},
	"expired when its lease ended": {ttl(blink), func(e *env, l mom.Lease) {
		e.ok(e.MarkSent(e.ctx, l))
		_, err := e.Renew(e.ctx, e.shard, []mom.Lease{l}, 2*blink)
		e.ok(err)
	}, expired},
	"expired when released": {ttl(blink), func(e *env, l mom.Lease) {
		e.overdue(l)
		e.ok(e.Release(e.ctx, l))
	}, expired},
	"expired when retried": {ttl(blink), func(e *env, l mom.Lease) {
		e.overdue(l)
		if state, err := e.Spend(e.ctx, l, "reset", time.Hour, 9); err != nil || state != expired {
			e.t.Fatalf("spend: got %v, %v, want EXPIRED", state, err)
		}
	}, expired},
	"succeeded after its TTL": {ttl(blink), func(e *env, l mom.Lease) {
		e.overdue(l)
		e.ok(e.Settle(e.ctx, l, success("done")))
	}, succeeded},
}

// overdue waits until reap has seen a leased task past its TTL, and left it
// running.
func (e *env) overdue(l mom.Lease) {
	e.t.Helper()
	e.reapUntil("the TTL is over", func() bool {
		score, err := e.do("ZSCORE", e.key("ttl"), l.ID.ULID.String()).ToString()
		e.ok(err)
		return score == "inf"
	})
	e.wantState(l.ID, running)
}

// After every end all keys are deleted: first the call, then the answer and the record.
func TestEveryEndLeavesNothing(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Run("first", func(t *testing.T) {
				onEachWith(t, redisstore.Config{TombstoneTTL: time.Hour}, func(t *testing.T, e *env) {
					id := e.led(way.change, way.end)
					e.reapUntil("the end", func() bool { return e.state(id) == way.want })
					task := e.get(id)
					if task.EndTime == nil || task.NextAttemptTime != nil {
						t.Errorf("ended: got %v", task)
					}
					// A tombstone, its key and its place in the caller's list.
					want := []string{"c:anonymous", "gone", "i:hash", "t:" + id.ULID.String()}
					if way.want == succeeded || way.want == failed {
						want = append([]string{"a:" + id.ULID.String()}, want...)
					}
					e.wantKeys(want...)
				})
			})
			t.Run("then", func(t *testing.T) {
				onEachWith(t, redisstore.Config{TombstoneTTL: blink}, func(t *testing.T, e *env) {
					e.led(way.change, way.end)
					e.reapUntil("nothing is left", func() bool { return len(e.existing()) == 0 })
				})
			})
		})
	}
}

// led adds a task with a key, leases it and calls end.
func (e *env) led(change func(*mom.NewTask), end func(*env, mom.Lease)) contract.TaskID {
	e.t.Helper()
	changes := []func(*mom.NewTask){keyed("hash", "print"), answerTTL(blink)}
	if e.cfg.TombstoneTTL > blink {
		changes[1] = answerTTL(time.Hour)
	}
	if change != nil {
		changes = append(changes, change)
	}
	for {
		id := e.add(changes...)
		leases, err := e.Lease(e.ctx, e.shard, 1, time.Hour)
		e.ok(err)
		if len(leases) == 1 {
			end(e, leases[0])
			return id
		}
		// On a slow machine the TTL may be over before the lease: try again with the same key.
		e.reapUntil("the first one is gone", func() bool {
			task, _, err := e.Get(e.ctx, id)
			return errors.Is(err, mom.ErrNotFound) || task.GetState() == expired
		})
		e.ok(e.do("DEL", e.key("t:"+id.ULID.String()), e.key("gone"), e.key("c:anonymous")).Error())
	}
}

// wantKeys checks that these are all keys of the test's shard.
func (e *env) wantKeys(names ...string) {
	e.t.Helper()
	want := make(map[string]bool)
	for _, name := range names {
		want[e.key(name)[len(e.cfg.Prefix):]] = true
	}
	for _, key := range e.existing() {
		if !want[key] {
			e.t.Errorf("left behind: %s", key)
		}
		delete(want, key)
	}
	for key := range want {
		e.t.Errorf("missing: %s", key)
	}
}

// A task past its TTL is not leased, and does not block others.
func TestExpiresOnTheWayToItsLease(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		late, good := e.add(ttl(time.Millisecond)), e.add()
		until(t, "its TTL is over", func() bool {
			clock, err := e.do("TIME").AsIntSlice()
			e.ok(err)
			return time.Unix(clock[0], clock[1]*1000).After(e.get(late).ExpireTime.AsTime().Add(time.Millisecond))
		})
		if got := e.order(); len(got) != 1 || got[0] != good {
			t.Errorf("leased: got %v, want %v", got, good)
		}
		e.wantState(late, expired)
	})
}

func TestLeaseEndsAfterTheMark(t *testing.T) {
	for name, c := range map[string]struct {
		change   []func(*mom.NewTask)
		mark     bool
		want     momv1.TaskState
		attempts int32
	}{
		"repeatable, marked":   {nil, true, queued, 1},
		"repeatable, unmarked": {nil, false, queued, 1},
		"undeclared, marked":   {[]func(*mom.NewTask){undeclared}, true, uncertain, 1},
		"undeclared, unmarked": {[]func(*mom.NewTask){undeclared}, false, queued, 0},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, e *env) {
				id := e.add(c.change...)
				lease := e.leaseFor(time.Millisecond)
				if c.mark {
					e.ok(e.MarkSent(e.ctx, lease))
				}
				e.reapUntil("the lease ends", func() bool { return e.state(id) != running })
				task := e.get(id)
				if task.State != c.want || task.Attempts != c.attempts || (task.LastFailure != "") != (c.attempts > 0) {
					t.Errorf("got %v, want %v after %d attempts", task, c.want, c.attempts)
				}
			})
		})
	}
}

// The answer expires first, then the record: in between, Get still tells that there was an
// answer.
func TestAnswerExpiresBeforeItsTask(t *testing.T) {
	t.Run("the answer", func(t *testing.T) {
		onEachWith(t, redisstore.Config{TombstoneTTL: time.Hour}, func(t *testing.T, e *env) {
			id := e.add(answerTTL(blink))
			e.ok(e.Settle(e.ctx, e.lease(), success("done")))
			until(t, "the answer is gone", func() bool {
				_, answer, err := e.Get(e.ctx, id)
				e.ok(err)
				return answer == nil
			})
			task := e.get(id)
			if task.State != succeeded || task.AnswerExpireTime == nil {
				t.Errorf("got %v, want it to say that there was an answer", task)
			}
		})
	})
	t.Run("then the record", func(t *testing.T) {
		onEachWith(t, redisstore.Config{TombstoneTTL: blink}, func(t *testing.T, e *env) {
			id := e.add(answerTTL(blink))
			e.ok(e.Settle(e.ctx, e.lease(), success("done")))
			e.reapUntil("the record is gone", func() bool {
				_, _, err := e.Get(e.ctx, id)
				return errors.Is(err, mom.ErrNotFound)
			})
		})
	})
}

// When more tasks are due than one Reap takes, it reports that there is more to do.
func TestReapGoesInBatches(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		const n = 40
		for range n {
			e.add()
		}
		leases, err := e.Lease(e.ctx, e.shard, n, time.Millisecond)
		if err != nil || len(leases) != n {
			t.Fatalf("lease: got %d, %v, want %d", len(leases), err, n)
		}
		until(t, "all leases have ended", func() bool {
			clock, err := e.do("TIME").AsIntSlice()
			e.ok(err)
			ended, err := e.do("ZCOUNT", e.key("lease"), "-inf", strconv.FormatInt(clock[0]*1000+clock[1]/1000, 10)).AsInt64()
			e.ok(err)
			return ended == n
		})
		if reaped, err := e.Reap(e.ctx, e.shard); err != nil || reaped.Next <= 0 {
			t.Errorf("to see the leases: got %v, %v, want a pause", reaped.Next, err)
		}
		if reaped, err := e.Reap(e.ctx, e.shard); err != nil || reaped.Next != 0 {
			t.Errorf("first round: got %v, %v, want 0", reaped.Next, err)
		}
		if reaped, err := e.Reap(e.ctx, e.shard); err != nil || reaped.Next <= 0 {
			t.Errorf("second round: got %v, %v, want the tasks' TTL", reaped.Next, err)
		}
		if depth, err := e.Depth(e.ctx, e.shard); err != nil || depth.Queued != n {
			t.Errorf("depth: got %+v, %v, want %d queued", depth, err, n)
		}
	})
}

func TestReapOfNothing(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		if reaped, err := e.Reap(e.ctx, e.shard); err != nil || reaped.Next >= 0 {
			t.Errorf("got %v, %v, want never", reaped.Next, err)
		}
	})
}

// Abandon cancels a task whose caller left, unless somebody has its handle.
func TestAbandon(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		left, kept, later := e.task(), e.task(), e.task()
		kept.Kept = true
		for _, task := range []mom.NewTask{left, kept, later} {
			if _, err := e.Add(e.ctx, task); err != nil {
				t.Fatal(err)
			}
		}
		missing, err := e.Keep(e.ctx, e.shard, []contract.TaskID{later.ID, e.id()})
		if err != nil || len(missing) != 1 {
			t.Errorf("keep: missing %v, %v, want the one that is not there", missing, err)
		}
		gone := []mom.Departure{{ID: left.ID}, {ID: kept.ID}, {ID: later.ID}, {ID: e.id()}}
		e.ok(e.Abandon(e.ctx, e.shard, gone))
		e.wantState(left.ID, cancelled)
		e.wantState(kept.ID, queued)
		e.wantState(later.ID, queued)
		if got, want := e.order(), []contract.TaskID{kept.ID, later.ID}; !slices.Equal(got, want) {
			t.Errorf("leased %v, want %v", got, want)
		}
	})
}

// A caller whose connection was lost counts as gone only if it has not offered the call again. It
// may still do so later.
func TestAbandonLost(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		task := e.task()
		task.Repeatable = false
		add := func(offer int64) mom.Added {
			task.Offer = offer
			added, err := e.Add(e.ctx, task)
			if err != nil {
				t.Fatal(err)
			}
			return added
		}
		lost := func(offer int64) {
			e.ok(e.Abandon(e.ctx, e.shard, []mom.Departure{{ID: task.ID, Lost: true, Offer: offer}}))
		}
		add(2)
		add(1) // this offer comes late
		lost(1)
		e.wantState(task.ID, queued)
		old := e.lease()
		e.ok(e.Release(e.ctx, old))
		lost(2)
		e.wantState(task.ID, cancelled)
		if added := add(3); added.Known {
			t.Error("the caller came back, and its cancelled task was taken for its call")
		}
		if got, err := e.do("HGET", e.key("t:"+task.ID.ULID.String()), "e").AsInt64(); err != nil || got != old.Epoch {
			t.Errorf("epoch: got %d, %v, want %d, from which the release before counts on", got, err, old.Epoch)
		}
		e.wantState(task.ID, queued)
		if got := e.order(); !slices.Equal(got, []contract.TaskID{task.ID}) {
			t.Errorf("leased %v, want the task once", got)
		}
		if err := e.Settle(e.ctx, old, success("late")); !errors.Is(err, mom.ErrFenced) {
			t.Errorf("settle by a lease from before it was stored anew: got %v, want ErrFenced", err)
		}
		e.ok(e.Cancel(e.ctx, task.ID))
		if added := add(4); !added.Known {
			t.Error("a task that somebody cancelled was stored again")
		}
	})
}

// To abandon tasks costs no more behind a long queue. The tasks before them are leased in their
// order.
func TestAbandonMany(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		const n = 250 // more than one lease skips
		var left []mom.Departure
		for range n {
			left = append(left, mom.Departure{ID: e.add()})
		}
		last := e.add()
		e.ok(e.Abandon(e.ctx, e.shard, left))
		if depth, err := e.Depth(e.ctx, e.shard); err != nil || depth.Queued != 1 {
			t.Errorf("depth: got %+v, %v, want one queued", depth, err)
		}
		var got []contract.TaskID
		for range n {
			leases, err := e.Lease(e.ctx, e.shard, 1000, time.Hour)
			if limited := new(mom.LimitedError); errors.As(err, &limited) {
				continue // there are more tasks to look at
			}
			e.ok(err)
			for _, lease := range leases {
				got = append(got, lease.ID)
			}
			break
		}
		if !slices.Equal(got, []contract.TaskID{last}) {
			t.Errorf("leased %v, want %v", got, last)
		}
	})
}
