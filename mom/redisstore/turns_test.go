package redisstore_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// together starts a task's add, and then calls all of these while that is under way: Redis is frozen until they wait for the
// next turn.
func (e *env) together(server *redistest.Server, all ...func()) {
	e.t.Helper()
	var asking sync.WaitGroup
	server.Freeze(e.t)
	asking.Go(func() { _, _ = e.Add(e.ctx, e.task()) })
	time.Sleep(50 * time.Millisecond)
	for _, ask := range all {
		asking.Go(ask)
	}
	time.Sleep(100 * time.Millisecond)
	server.Thaw(e.t)
	asking.Wait()
}

func onServer(t *testing.T) (*env, *redistest.Server) {
	t.Helper()
	server := redistest.New(t)
	return newEnv(t, redisstore.Config{URL: server.URL()}), server
}

// What is asked for while a script is under way is done by the next one.
func TestTurnTakesAllThatWait(t *testing.T) {
	t.Parallel()
	e, server := onServer(t)
	settled := e.add()
	lease := e.lease()
	e.ok(e.do("CONFIG", "RESETSTAT").Error())
	ids := make([]contract.TaskID, 40)
	asks := []func(){func() { e.ok(e.Settle(e.ctx, lease, success("done"))) }}
	for i := range ids {
		asks = append(asks, func() { ids[i] = e.add() })
	}
	e.together(server, asks...)
	for _, id := range ids {
		e.wantState(id, queued)
	}
	e.wantAnswer(settled, success("done"))
	info, err := e.do("INFO", "commandstats").ToString()
	e.ok(err)
	_, after, _ := strings.Cut(info, "cmdstat_evalsha:calls=")
	scripts, _, _ := strings.Cut(after, ",")
	if got, _ := strconv.Atoi(scripts); got < 2 || got > 4 {
		t.Errorf("%d scripts, want two for %d transitions, or few more on a busy machine", got, len(asks)+1)
	}
}

// A damaged task does no harm to those whose turn is the same.
func TestTurnWithADamagedTask(t *testing.T) {
	t.Parallel()
	e, server := onServer(t)
	sound, damaged := e.add(), e.add()
	leases, err := e.Lease(e.ctx, e.shard, 2, time.Hour)
	if err != nil || len(leases) != 2 {
		t.Fatalf("lease: got %v, %v, want two", leases, err)
	}
	e.ok(e.do("DEL", e.key("t:"+damaged.ULID.String())).Error())
	e.ok(e.do("SET", e.key("t:"+damaged.ULID.String()), "no hash").Error())
	var added contract.TaskID
	var failed error
	e.together(server,
		func() { e.ok(e.Settle(e.ctx, leases[0], success("done"))) },
		func() { failed = e.Settle(e.ctx, leases[1], success("done")) },
		func() { added = e.add() })
	e.wantAnswer(sound, success("done"))
	e.wantState(added, queued)
	if failed == nil || errors.Is(failed, mom.ErrUnavailable) {
		t.Errorf("the damaged one: got %v, want an error of its own", failed)
	}
}

// Tasks end in a full Redis, also those whose turn is that of a new one.
func TestTurnInAFullRedis(t *testing.T) {
	t.Parallel()
	e, server := onServer(t)
	e.ok(e.Check(e.ctx))
	id := e.add()
	lease := e.lease()
	e.ok(e.do("CONFIG", "SET", "maxmemory", "1").Error())
	var refused error
	e.together(server,
		func() { e.ok(e.Settle(e.ctx, lease, success("done"))) },
		func() { _, refused = e.Add(e.ctx, e.task()) })
	if !errors.Is(refused, mom.ErrQueueFull) {
		t.Errorf("add: got %v, want ErrQueueFull", refused)
	}
	e.wantAnswer(id, success("done"))
}

// A task says until when the store may try, whatever its other bounds: one whose turn has begun may be stored, and one that waits for its turn is not.
func TestTimeOfATurnIsOver(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, redisstore.Config{URL: server.URL(), CommandTimeout: time.Hour})
	e.add()
	server.Freeze(t)
	defer server.Thaw(t)
	for _, begun := range []bool{true, false} {
		task := e.task()
		task.Until = time.Now().Add(50 * time.Millisecond)
		_, err := e.Add(e.ctx, task)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, mom.ErrNotSent) == begun {
			t.Errorf("its turn has begun: %v; got %v", begun, err)
		}
	}
	task := e.task()
	task.Until = time.Now()
	if _, err := e.Add(e.ctx, task); !errors.Is(err, mom.ErrNotSent) {
		t.Errorf("without time: got %v, want ErrNotSent", err)
	}
}

// Whoever leaves before its turn is told that nothing was done, and nothing is.
func TestLeavesBeforeItsTurn(t *testing.T) {
	t.Parallel()
	e, server := onServer(t)
	e.add()
	task := e.task()
	var left error
	e.together(server, func() {
		ctx, cancel := context.WithTimeout(e.ctx, time.Millisecond)
		defer cancel()
		_, left = e.Add(ctx, task)
	})
	if !errors.Is(left, mom.ErrNotSent) {
		t.Errorf("got %v, want ErrNotSent", left)
	}
	if _, _, err := e.Get(e.ctx, task.ID); !errors.Is(err, mom.ErrNotFound) {
		t.Errorf("get: got %v, want ErrNotFound", err)
	}
}
