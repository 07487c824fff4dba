package redisstore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// rewrite starts a rewrite of the append-only file and waits for its end.
func (e *env) rewrite() {
	e.t.Helper()
	// It may have to wait for one that Redis began by itself.
	until(e.t, "a rewrite begins", func() bool { return e.do("BGREWRITEAOF").Error() == nil })
	until(e.t, "the rewrite ends", func() bool {
		info, err := e.raw.Do(e.ctx, e.raw.B().Info().Section("persistence").Build()).ToString()
		e.ok(err)
		return strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0")
	})
}

// While Redis loads its files, calls fail, and surely have no effect. After that all is as
// before.
func TestRedisLoading(t *testing.T) {
	t.Parallel()
	server := redistest.New(t, "--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	const tasks = 200
	var ids []contract.TaskID
	for range tasks {
		ids = append(ids, e.add())
	}
	e.rewrite() // keys of the base file are slow to load
	server.Kill(t)
	server.Start(t)
	until(t, "Redis is loading", func() bool {
		_, err := e.Depth(e.ctx, e.shard)
		if err == nil {
			t.Fatal("it is loaded already")
		}
		if !errors.Is(err, mom.ErrUnavailable) {
			t.Fatalf("meanwhile: got %v, want ErrUnavailable", err)
		}
		return strings.Contains(err.Error(), "LOADING")
	})
	// Each connection of the store notices for itself that it was broken.
	until(t, "calls are refused", func() bool {
		_, add := e.Add(e.ctx, e.task())
		_, _, get := e.Get(e.ctx, ids[0])
		for what, err := range map[string]error{"add": add, "get": get, "check": e.Check(e.ctx)} {
			if !errors.Is(err, mom.ErrUnavailable) {
				t.Fatalf("%s: got %v, want ErrUnavailable", what, err)
			}
			if !errors.Is(err, mom.ErrNotSent) {
				return false
			}
		}
		return true
	})
	server.Ask(t, "CONFIG", "SET", "key-load-delay", "0")
	until(t, "it is loaded", func() bool { return e.Check(e.ctx) == nil })
	until(t, "all tasks are there", func() bool {
		depth, err := e.Depth(e.ctx, e.shard)
		return err == nil && depth.Queued == tasks
	})
}

// A rewrite of the append-only file while calls run loses nothing, nor does a
// crash after it.
func TestRewriteWhileCallsRun(t *testing.T) {
	t.Parallel()
	server := redistest.New(t, "--appendfsync", "always")
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	ctx, stop := context.WithCancel(e.ctx)
	defer stop()
	var calls sync.WaitGroup
	stored, answered := map[contract.TaskID]bool{}, map[contract.TaskID]bool{}
	calls.Go(func() {
		for ctx.Err() == nil {
			added, err := e.Add(e.ctx, e.task())
			if err != nil {
				t.Errorf("add: %v", err)
			}
			stored[added.ID] = true
		}
	})
	calls.Go(func() {
		for ctx.Err() == nil {
			leases, err := e.Lease(e.ctx, e.shard, 1, time.Hour)
			if err != nil {
				t.Errorf("lease: %v", err)
			}
			for _, lease := range leases {
				if err := e.Settle(e.ctx, lease, success(lease.ID.String())); err != nil {
					t.Errorf("settle: %v", err)
				}
				answered[lease.ID] = true
			}
		}
	})
	for range 3 {
		e.rewrite()
	}
	stop()
	calls.Wait()
	server.Kill(t)
	server.Restart(t)
	until(t, "the store is back", func() bool { return e.Check(e.ctx) == nil })
	e = newEnv(t, redisstore.Config{URL: server.URL(), Prefix: e.cfg.Prefix}) // with new connections
	for id := range stored {
		if answered[id] {
			e.wantAnswer(id, success(id.String()))
		} else {
			e.wantState(id, queued)
		}
	}
	t.Logf("%d stored, %d answered", len(stored), len(answered))
}

// While Redis cannot save, it refuses writes, and so do we, and say why.
func TestRedisCannotSave(t *testing.T) {
	t.Parallel()
	server := redistest.New(t, "--enable-protected-configs", "yes", "--save", "3600 1")
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	id := e.add()
	lease := e.lease()
	dir := filepath.Join(t.TempDir(), "gone")
	e.ok(os.Mkdir(dir, 0o700))
	e.ok(e.do("CONFIG", "SET", "dir", dir).Error())
	e.ok(os.Remove(dir))
	status := func(want string) {
		t.Helper()
		e.ok(e.do("BGSAVE").Error())
		until(t, "it has tried to save", func() bool {
			info, err := e.raw.Do(e.ctx, e.raw.B().Info().Section("persistence").Build()).ToString()
			e.ok(err)
			return strings.Contains(info, "rdb_bgsave_in_progress:0") && strings.Contains(info, "rdb_last_bgsave_status:"+want)
		})
	}
	status("err")
	_, add := e.Add(e.ctx, e.task())
	for what, err := range map[string]error{"add": add, "settle": e.Settle(e.ctx, lease, success("done"))} {
		if !errors.Is(err, mom.ErrUnavailable) || !errors.Is(err, mom.ErrNotSent) || !strings.Contains(err.Error(), "MISCONF") {
			t.Errorf("%s: got %v, want ErrUnavailable and ErrNotSent for MISCONF", what, err)
		}
	}
	e.wantState(id, running)
	e.ok(os.Mkdir(dir, 0o700))
	e.ok(e.do("CONFIG", "SET", "dir", dir).Error()) // the new directory
	status("ok")
	e.ok(e.Settle(e.ctx, lease, success("done")))
	e.add()
}
