package redisstore_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// The calls of a shard may take MaxBytes. A task that has ended or is parked makes room for others.
func TestFullOfBytes(t *testing.T) {
	const each = 1000
	onEachWith(t, redisstore.Config{MaxBytes: 3 * each}, func(t *testing.T, e *env) {
		large := func(task *mom.NewTask) { task.Call.Message = make([]byte, each-100) }
		first := e.add(large)
		e.add(large)
		e.add(large)
		task := e.task()
		large(&task)
		if _, err := e.Add(e.ctx, task); !errors.Is(err, mom.ErrQueueFull) {
			t.Fatalf("a fourth: got %v, want ErrQueueFull", err)
		}
		again := e.task()
		again.ID = first
		if added, err := e.Add(e.ctx, again); err != nil || added.ID != first {
			t.Errorf("the first, once more: got %+v, %v, want it", added, err)
		}
		depth, err := e.Depth(e.ctx, e.shard)
		if e.ok(err); depth.Bytes < 3*(each-100) || depth.Bytes > 3*each {
			t.Errorf("bytes: got %d", depth.Bytes)
		}
		e.ok(e.Settle(e.ctx, e.lease(), success("done")))
		e.add(large)
		e.ok(e.Park(e.ctx, e.lease(), "cut off"))
		if _, err := e.Add(e.ctx, task); err != nil {
			t.Errorf("beside a parked call: got %v, want it stored", err)
		}
	})
}

// When Redis is nearly full, Add refuses new tasks and says why. When there is room again, it
// takes them.
func TestFullOfMemory(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redisstore.Config{URL: redistest.New(t).URL()})
	first := e.task()
	first.KeyHash, first.Fingerprint = "hash", "print"
	if _, err := e.Add(e.ctx, first); err != nil {
		t.Fatal(err)
	}
	info, err := e.do("INFO", "memory").ToString()
	e.ok(err)
	_, rest, _ := strings.Cut(info, "used_memory:")
	number, _, _ := strings.Cut(rest, "\r\n")
	used, err := strconv.ParseInt(number, 10, 64)
	e.ok(err)
	e.ok(e.do("CONFIG", "SET", "maxmemory", strconv.FormatInt(used*6/5, 10)).Error())
	until(t, "tasks are refused", func() bool {
		_, err := e.Add(e.ctx, e.task())
		if errors.Is(err, mom.ErrQueueFull) && !strings.HasSuffix(err.Error(), ": memory") {
			t.Fatalf("got %v: Redis itself refused, which should be spared that", err)
		}
		return errors.Is(err, mom.ErrQueueFull)
	})
	for range 20 {
		if _, err := e.Add(e.ctx, e.task()); !errors.Is(err, mom.ErrQueueFull) {
			t.Fatalf("another: got %v, want ErrQueueFull", err)
		}
	}
	if added, err := e.Add(e.ctx, first); err != nil || added.ID != first.ID {
		t.Errorf("a stored task, once more: got %+v, %v, want it", added, err)
	}
	attach := e.task()
	attach.KeyHash, attach.Fingerprint = "hash", "print"
	if added, err := e.Add(e.ctx, attach); err != nil || !added.Attached {
		t.Errorf("its key: got %+v, %v, want it attached", added, err)
	}
	e.ok(e.do("CONFIG", "SET", "maxmemory", strconv.FormatInt(used*2, 10)).Error())
	until(t, "there is room again", func() bool { _, err := e.Add(e.ctx, e.task()); return err == nil })
}

// 50,000 tasks end in different ways, and leave no key behind.
func TestEveryFate(t *testing.T) {
	t.Parallel()
	const tasks, workers = 50_000, 16
	e := newEnv(t, redisstore.Config{URL: redistest.Start(t), TombstoneTTL: time.Millisecond})
	before := e.existing()
	each := func(what string, do func() error) {
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				if err := do(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
		if all.Wait(); t.Failed() {
			t.FailNow()
		}
	}
	var n, left atomic.Int64
	each("add", func() error {
		for i := n.Add(1); i <= tasks; i = n.Add(1) {
			task := e.task()
			task.AnswerTTL, task.Repeatable = time.Millisecond, i%2 == 0
			if i%3 == 0 {
				task.KeyHash, task.Fingerprint = fmt.Sprint(i), "print"
			}
			if i%5 == 0 {
				task.TTL = time.Millisecond
			}
			if _, err := e.Add(e.ctx, task); err != nil {
				return err
			}
			if i%7 == 0 {
				if err := e.Abandon(e.ctx, e.shard, []mom.Departure{{ID: task.ID}}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	var leased sync.Map
	left.Store(1)
	each("end", func() error {
		for left.Load() > 0 {
			leases, err := e.Lease(e.ctx, e.shard, 8, time.Hour)
			if err != nil {
				return err
			}
			for _, lease := range leases {
				if err := e.MarkSent(e.ctx, lease); err != nil {
					return err
				}
				_, again := leased.LoadOrStore(lease.ID, true)
				switch end := lease.ID.ULID[15] % 8; {
				case again: // it came back from one of these
					err = e.Settle(e.ctx, lease, success("yes"))
				case end == 0:
					err = e.Settle(e.ctx, lease, failure("no"))
				case end == 1:
					err = e.Release(e.ctx, lease)
				case end == 2:
					_, err = e.Spend(e.ctx, lease, "reset", 0, 3)
				case end == 3:
					_, err = e.Renew(e.ctx, e.shard, []mom.Lease{lease}, time.Millisecond) // and forget it
				case end == 4 && !lease.Repeatable:
					err = e.Park(e.ctx, lease, "cut off")
				default:
					err = e.Settle(e.ctx, lease, success("yes"))
				}
				if err != nil && !errors.Is(err, mom.ErrFenced) {
					return err
				}
			}
			if _, err := e.Reap(e.ctx, e.shard); err != nil {
				return err
			}
			depth, err := e.Depth(e.ctx, e.shard)
			if err != nil {
				return err
			}
			left.Store(depth.Queued + depth.Running + depth.Retrying)
		}
		return nil
	})
	parked, err := e.do("LRANGE", e.key("dead"), "0", "-1").AsStrSlice()
	e.ok(err)
	if len(parked) == 0 {
		t.Error("no task was parked; the test has lost some of its fates")
	}
	for _, name := range parked {
		id := e.id()
		e.ok(id.ULID.UnmarshalText([]byte(name)))
		e.ok(e.Cancel(e.ctx, id))
	}
	e.reapUntil("all records are gone", func() bool {
		return slices.Equal(before, e.existing())
	})
}
