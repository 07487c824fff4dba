package redisstore_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"

	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// parkOne adds a task with a call of n bytes or a little more and parks it.
func (e *env) parkOne(n int, change ...func(*mom.NewTask)) contract.TaskID {
	e.t.Helper()
	id := e.add(append(change, undeclared, func(task *mom.NewTask) { task.Call.Message = make([]byte, n) })...)
	lease := e.lease()
	e.ok(e.MarkSent(e.ctx, lease))
	e.ok(e.Park(e.ctx, lease, "cut off"))
	return id
}

// dead lists the tasks that wait for a person, the oldest first.
func (e *env) dead() []string {
	e.t.Helper()
	entries, err := e.do("LRANGE", e.key("dead"), "0", "-1").AsStrSlice()
	e.ok(err)
	return slices.DeleteFunc(entries, func(entry string) bool { return len(entry) < ulid.EncodedSize }) // holes
}

func (e *env) wantDead(ids ...contract.TaskID) {
	e.t.Helper()
	var want []string
	for _, id := range ids {
		want = append(want, id.ULID.String())
	}
	if got := e.dead(); !slices.Equal(got, want) {
		e.t.Errorf("dead: got %v, want %v", got, want)
	}
}

func (e *env) depth() mom.Depth {
	e.t.Helper()
	depth, err := e.Depth(e.ctx, e.shard)
	e.ok(err)
	return depth
}

// wantGivenUp checks a task whose call is gone and whose record tells what is known.
func (e *env) wantGivenUp(id contract.TaskID) {
	e.t.Helper()
	task := e.get(id)
	if task.State != uncertain || task.LastFailure != "cut off" || task.Attempts != 1 {
		e.t.Errorf("given up: got %v, want it to tell what is known", task)
	}
	if n, err := e.do("EXISTS", e.key("p:"+id.ULID.String())).AsInt64(); err != nil || n != 0 {
		e.t.Errorf("its call is still there: %v, %v", n, err)
	}
	if ms, err := e.do("PTTL", e.key("t:"+id.ULID.String())).AsInt64(); err != nil || ms <= 0 {
		e.t.Errorf("its record expires in %d ms, %v", ms, err)
	}
	if err := e.Retry(e.ctx, id); !errors.Is(err, mom.ErrCallDropped) {
		e.t.Errorf("retry: got %v, want ErrCallDropped", err)
	}
}

// Parked calls have room of their own. When they need more, the oldest end.
func TestParkedBytes(t *testing.T) {
	const each = 1000
	onEachWith(t, redisstore.Config{MaxBytes: 2 * each, MaxParkedBytes: 3 * each}, func(t *testing.T, e *env) {
		var ids []contract.TaskID
		for range 4 {
			ids = append(ids, e.parkOne(each-100, keyed(strconv.Itoa(len(ids)), "print")))
		}
		reaped, err := e.Reap(e.ctx, e.shard)
		if e.ok(err); reaped.GivenUp != 1 || reaped.Parked.Bytes != e.depth().Parked.Bytes || reaped.Parked.Share < 0.8 {
			t.Errorf("reaped: got %+v, want one given up, and nearly full", reaped)
		}
		e.wantGivenUp(ids[0])
		e.wantDead(ids[1:]...)
		if depth := e.depth(); depth.Dead != 3 || depth.Bytes != depth.Parked.Bytes || depth.Bytes < 3*(each-100) || depth.Bytes > 3*each {
			t.Errorf("depth: got %+v, want the bytes of three", depth)
		}
		// Its key ends with the record, and names the task until then.
		again := e.task()
		again.KeyHash, again.Fingerprint = "0", "print"
		if added, err := e.Add(e.ctx, again); err != nil || added.ID != ids[0] {
			t.Errorf("its key: got %+v, %v, want it attached", added, err)
		}
		if ms, err := e.do("PTTL", e.key("i:0")).AsInt64(); err != nil || ms <= 0 {
			t.Errorf("its key expires in %d ms, %v", ms, err)
		}
		// A task that was retried does not count as parked any more.
		e.ok(e.Retry(e.ctx, ids[1]))
		if depth := e.depth(); depth.Dead != 2 || depth.Parked.Bytes != 2*depth.Bytes/3 {
			t.Errorf("after a retry: got %+v, want two thirds parked", depth)
		}
		large := e.task()
		large.Call.Message = make([]byte, each+200)
		if _, err := e.Add(e.ctx, large); !errors.Is(err, mom.ErrQueueFull) {
			t.Errorf("add: got %v, want ErrQueueFull", err)
		}
	})
}

// A parked task ends when it has waited for long enough, and leaves nothing.
func TestParkedTTL(t *testing.T) {
	onEachWith(t, redisstore.Config{ParkedTTL: blink, TombstoneTTL: blink}, func(t *testing.T, e *env) {
		id := e.parkOne(100, keyed("hash", "print"))
		e.reapUntil("it is given up", func() bool { return len(e.dead()) == 0 })
		if task, _, err := e.Get(e.ctx, id); err == nil && task.State != uncertain {
			t.Errorf("given up: got %v, want UNCERTAIN", task)
		}
		e.reapUntil("nothing is left", func() bool { return len(e.existing()) == 0 })
	})
}

// Reap's Next is just when a parked task ends.
func TestParkedEndOnTime(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	server, clock := redistest.NewClocked(t, start)
	e := newEnv(t, redisstore.Config{URL: server.URL(), ParkedTTL: 100 * time.Hour})
	first := e.parkOne(100)
	clock.Set(t, start.Add(50*time.Hour))
	second := e.parkOne(100)
	reaped, err := e.Reap(e.ctx, e.shard)
	if e.ok(err); reaped.Next != 50*time.Hour || reaped.GivenUp != 0 || reaped.Parked.Oldest != 50*time.Hour || reaped.Parked.Share != 0.5 {
		t.Errorf("half of its time: got %+v", reaped)
	}
	clock.Set(t, start.Add(100*time.Hour))
	reaped, err = e.Reap(e.ctx, e.shard)
	if e.ok(err); reaped.Next != 24*time.Hour || reaped.GivenUp != 1 || reaped.Parked.Oldest != 50*time.Hour {
		t.Errorf("all of its time: got %+v, want the record due after the tombstone's", reaped)
	}
	e.wantGivenUp(first)
	e.wantDead(second)
}

// Tasks that an older release has parked are counted, and end like those that this one parks.
func TestParkedByAnOlderRelease(t *testing.T) {
	onEachWith(t, redisstore.Config{ParkedTTL: time.Hour}, func(t *testing.T, e *env) {
		const n = 130 // more than a batch
		ids := make([]contract.TaskID, n)
		for i := range ids {
			ids[i] = e.parkOne(100)
		}
		want := e.depth()
		if want.Parked.Bytes != want.Bytes || want.Bytes == 0 {
			t.Fatalf("depth: got %+v, want all bytes parked", want)
		}
		for _, id := range ids {
			e.ok(e.do("HDEL", e.key("t:"+id.ULID.String()), "b").Error())
		}
		e.ok(e.do("DEL", e.key("parked")).Error())

		newer := newEnv(t, e.cfg)
		for range 2 {
			_, err := newer.Reap(e.ctx, e.shard)
			e.ok(err)
			if got := newer.depth(); got.Parked.Bytes != want.Parked.Bytes || got.Bytes != want.Bytes {
				t.Errorf("counted: got %+v, want %+v", got, want)
			}
		}
		aged := time.Now().Add(-2 * time.Hour).UnixMilli()
		e.ok(e.do("HSET", e.key("t:"+ids[0].ULID.String()), "z", strconv.FormatInt(aged, 10)).Error())
		reaped, err := newer.Reap(e.ctx, e.shard)
		if e.ok(err); reaped.GivenUp != 1 {
			t.Errorf("reaped: got %+v, want one given up", reaped)
		}
		e.wantGivenUp(ids[0])
		if retried, err := newer.RetryDead(e.ctx, e.shard, true); err != nil || retried != n-1 {
			t.Errorf("retried: got %d, %v, want %d", retried, err, n-1)
		}
		if got := newer.depth(); got.Parked.Bytes != 0 || got.Bytes != want.Bytes/n*(n-1) {
			t.Errorf("retried: got %+v, want no bytes parked", got)
		}
	})
}

// A parked task of a newer release is left to that release, and does not block others.
func TestParkedByANewerRelease(t *testing.T) {
	onEachWith(t, redisstore.Config{ParkedTTL: blink}, func(t *testing.T, e *env) {
		newer, own := e.parkOne(100), e.parkOne(100)
		e.setVersion(newer, unknownVersion)
		e.reapUntil("the other is given up", func() bool { return len(e.dead()) == 1 })
		e.wantGivenUp(own)
		e.wantDead(newer)
		e.setVersion(newer, "1")
		e.reapUntil("it is given up", func() bool { return len(e.dead()) == 0 })
		e.wantGivenUp(newer)
	})
}

// A dismissed task tells what is known until its record expires, whatever else an operator tries
// with the task.
func TestDismiss(t *testing.T) {
	for name, dismiss := range map[string]func(e *env, id contract.TaskID) error{
		"dismissed": func(e *env, id contract.TaskID) error { return e.Dismiss(e.ctx, id) },
		"cancelled": func(e *env, id contract.TaskID) error { return e.Cancel(e.ctx, id) },
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, e *env) {
				id, other := e.parkOne(100), e.parkOne(100)
				e.ok(dismiss(e, id))
				first := e.get(id)
				if first.DismissTime == nil || e.get(other).DismissTime != nil {
					t.Errorf("dismissed: got %v, want the time of that, of this task alone", first)
				}
				e.ok(e.Dismiss(e.ctx, id))
				e.ok(e.Cancel(e.ctx, id))
				e.ok(e.Abandon(e.ctx, e.shard, []mom.Departure{{ID: id}}))
				if n, err := e.RetryDead(e.ctx, e.shard, true); err != nil || n != 1 {
					t.Errorf("retry dead: got %d, %v, want the other one", n, err)
				}
				e.wantGivenUp(id)
				if got := e.get(id); !proto.Equal(got, first) {
					t.Errorf("then: got %v, want %v", got, first)
				}
				if depth := e.depth(); depth.Dead != 0 || depth.Parked != (mom.Parked{}) || depth.Queued != 1 {
					t.Errorf("depth: got %+v, want one queued", depth)
				}
			})
		})
	}
	t.Run("not parked", func(t *testing.T) {
		onEach(t, func(t *testing.T, e *env) {
			if err := e.Dismiss(e.ctx, e.id()); !errors.Is(err, mom.ErrNotFound) {
				t.Errorf("unknown: got %v, want ErrNotFound", err)
			}
			id := e.add()
			if err := e.Dismiss(e.ctx, id); !errors.Is(err, mom.ErrTaskState) {
				t.Errorf("queued: got %v, want ErrTaskState", err)
			}
			e.wantState(id, queued)
		})
	})
}

// A retry forgets no attempt: the task may have run in each.
func TestEarlierAttempts(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		id := e.parkOne(100)
		for n := range int32(2) {
			e.ok(e.Retry(e.ctx, id))
			if got := e.get(id); got.Attempts != 0 || got.EarlierAttempts != n+1 {
				t.Errorf("retried: got %v, want %d earlier attempts", got, n+1)
			}
			e.ok(e.Park(e.ctx, e.lease(), "cut off"))
		}
		e.ok(e.Retry(e.ctx, id))
		e.ok(e.Cancel(e.ctx, id))
		if got := e.get(id); got.State != cancelled || got.EarlierAttempts != 3 {
			t.Errorf("cancelled: got %v, want it to tell of its attempts", got)
		}
	})
}

// Two releases at the same time may count wrongly. That blocks nothing, and ends with the last
// parked task.
func TestParkedMiscounted(t *testing.T) {
	onEachWith(t, redisstore.Config{ParkedTTL: time.Hour}, func(t *testing.T, e *env) {
		first, second := e.parkOne(100), e.parkOne(100)
		e.ok(e.do("DEL", e.key("parked")).Error())
		_, err := e.Reap(e.ctx, e.shard)
		e.ok(err)
		e.ok(e.Dismiss(e.ctx, first))
		if depth := e.depth(); depth.Dead != 1 || depth.Parked.Bytes != 0 {
			t.Errorf("one left: got %+v, want it, and no bytes less than none", depth)
		}
		e.ok(e.Dismiss(e.ctx, second))
		third := e.parkOne(100)
		if depth := e.depth(); depth.Parked.Bytes < 100 || depth.Parked.Bytes != depth.Bytes {
			t.Errorf("then: got %+v, want the bytes of one", depth)
		}
		e.wantDead(third)
	})
}

// Dead tasks can be retried although the clock was set back after they died.
func TestRetryDeadAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	e, after := clocked(t)
	const n = 30 // more than a batch
	for range n {
		e.add(ttl(24 * time.Hour))
		_, err := e.Spend(e.ctx, e.lease(), "reset", time.Second, 1)
		e.ok(err)
	}
	after(-time.Hour)
	if got, err := e.RetryDead(e.ctx, e.shard, false); err != nil || got != n {
		t.Errorf("retried: got %d, %v, want %d", got, err, n)
	}
}
