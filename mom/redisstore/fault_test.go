package redisstore_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

func TestOpenRefusesNonsense(t *testing.T) {
	t.Parallel()
	for _, cfg := range []redisstore.Config{
		{}, {URL: "http://localhost"}, {URL: "redis://localhost/x"},
		{URL: "redis://a:1,b:2"}, {URL: "redis://localhost", Cluster: true, SentinelMaster: "m"},
		{URL: "redis://localhost", MaxQueued: -1}, {URL: "redis://localhost", TombstoneTTL: -time.Hour},
	} {
		if store, err := redisstore.Open(cfg); err == nil {
			store.Close()
			t.Errorf("%+v: no error", cfg)
		}
	}
}

// Errors about a URL do not show its password, whatever is wrong with the URL.
func TestOpenKeepsPasswords(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"redis://user:se/cret@localhost:6379", "redis://:se#cret@localhost", "redis://:se?cret@localhost", "redis://:se%crzt@localhost",
		"redis://:secr et@localhost", "redis://:secret@localhost:port", "redis://:secret@localhost:6379/x", "redis://:secret@localhost/1/2",
		"rediss://:secret@localhost:6379?dial_timeout=x", "rediss://:secret@[::1", "unix://:secret@/redis.sock?db=x", "user:secret@localhost:6379",
		"redis://:secret@a:1,b:x", "redis://:12/cret@localhost", "redis://secret/cret@localhost", "http://:secret@localhost", "redis://:secret@a,b",
	} {
		store, err := redisstore.Open(redisstore.Config{URL: url})
		if err == nil {
			store.Close()
			t.Errorf("%s: no error", url)
		} else if text := err.Error(); strings.Contains(text, "cret") || strings.Contains(text, "secr") || strings.Contains(text, "crzt") {
			t.Errorf("%s: quoted in %q", url, text)
		}
	}
}

// A store opens while Redis is down, and works when Redis comes.
func TestRedisComesLater(t *testing.T) {
	t.Parallel()
	// With everysec a crash may lose the last second, and a task with it.
	server := redistest.New(t, "--appendfsync", "always")
	server.Kill(t)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	_, add := e.Add(e.ctx, e.task())
	_, _, get := e.Get(e.ctx, e.id())
	for what, err := range map[string]error{
		"add": add, "get": get, "check": e.Check(e.ctx),
	} {
		if !errors.Is(err, mom.ErrUnavailable) {
			t.Errorf("%s while down: got %v, want ErrUnavailable", what, err)
		}
	}
	server.Restart(t)
	until(t, "the store is there", func() bool { return e.Check(e.ctx) == nil })
	id := e.add()

	// And again, with tasks in it.
	server.Kill(t)
	if _, _, err := e.Get(e.ctx, id); !errors.Is(err, mom.ErrUnavailable) {
		t.Errorf("get while down again: got %v, want ErrUnavailable", err)
	}
	server.Restart(t)
	until(t, "the store is back", func() bool { return e.Check(e.ctx) == nil })
	// Each connection of the store notices for itself that it is broken.
	until(t, "the task is there", func() bool {
		task, _, err := e.Get(e.ctx, id)
		return err == nil && task.State == queued
	})
}

// While Redis is silent, each call ends at its deadline, however many calls there are. When Redis
// is back, the store is, too.
func TestFrozenRedis(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, redisstore.Config{URL: server.URL(), CommandTimeout: 100 * time.Millisecond})
	until(t, "a first task", func() bool { _, err := e.Add(e.ctx, e.task()); return err == nil })
	server.Freeze(t)
	var calls sync.WaitGroup
	for range 3000 { // more than rueidis has places for
		calls.Go(func() {
			if _, err := e.Add(e.ctx, e.task()); !errors.Is(err, mom.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
		})
	}
	calls.Wait()
	server.Thaw(t)
	until(t, "the store is back", func() bool { _, err := e.Add(e.ctx, e.task()); return err == nil })
}

// A reply that comes after its caller has left disturbs no other call; the race detector watches.
func TestLateReplies(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, redisstore.Config{URL: server.URL(), CommandTimeout: 5 * time.Second})
	id := e.add()
	service := e.shard.Service
	if _, err := e.Numbering(e.ctx, service, 1); err != nil {
		t.Fatal(err)
	}
	server.Freeze(t)
	ctx, cancel := context.WithTimeout(e.ctx, 30*time.Millisecond)
	defer cancel()
	var reads sync.WaitGroup
	for name, read := range map[string]func() error{
		"Get":       func() error { _, _, err := e.Get(ctx, id); return err },
		"List":      func() error { _, _, err := e.List(ctx, e.shard, "", "", 1, nil); return err },
		"Numbering": func() error { _, err := e.Numbering(ctx, service, 1); return err },
		"Renumber":  func() error { _, err := e.Renumber(ctx, service, 2); return err },
		"Services":  func() error { _, err := e.Services(ctx); return err },
		"Schema":    func() error { _, err := e.Schema(ctx, "none"); return err },
		"Depth":     func() error { _, err := e.Depth(ctx, e.shard); return err },
	} {
		reads.Go(func() {
			if err := read(); !errors.Is(err, mom.ErrUnavailable) {
				t.Errorf("%s: got %v, want ErrUnavailable", name, err)
			}
		})
	}
	reads.Wait()
	server.Thaw(t)
	time.Sleep(50 * time.Millisecond) // another call would give the detector an order
}

func TestClosedStore(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		id := e.add()
		e.Close()
		e.Close()
		if _, _, err := e.Get(e.ctx, id); !errors.Is(err, mom.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	})
}

func TestCancelledContext(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		ctx, cancel := context.WithCancel(e.ctx)
		cancel()
		if _, err := e.Add(ctx, e.task()); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error", err)
		}
		if keys := e.existing(); len(keys) != 0 {
			t.Errorf("stored: %v", keys)
		}
	})
}

// A full Redis takes no new tasks, but the stored ones can end.
func TestFullRedisDrains(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	e.ok(e.Check(e.ctx))
	var ids []contract.TaskID
	for range 6 {
		ids = append(ids, e.add(undeclared, keyed(e.id().String(), "print")))
	}
	e.ok(e.do("CONFIG", "SET", "maxmemory", "1").Error())

	if _, err := e.Add(e.ctx, e.task()); !errors.Is(err, mom.ErrQueueFull) {
		t.Errorf("add: got %v, want ErrQueueFull", err)
	}
	e.wantNothingHalf(7)
	e.ok(e.Check(e.ctx))
	leases, err := e.Lease(e.ctx, e.shard, 5, time.Hour)
	if err != nil || len(leases) != 5 {
		t.Fatalf("lease: got %d, %v, want 5", len(leases), err)
	}
	_, err = e.Renew(e.ctx, e.shard, leases, time.Hour)
	e.ok(err)
	for _, lease := range leases {
		e.ok(e.MarkSent(e.ctx, lease))
	}
	e.ok(e.Settle(e.ctx, leases[0], success(strings.Repeat("large ", 10_000))))
	_, err = e.Spend(e.ctx, leases[1], "reset", time.Hour, 9)
	e.ok(err)
	_, err = e.Spend(e.ctx, leases[2], "reset", time.Hour, 1)
	e.ok(err)
	e.ok(e.Park(e.ctx, leases[3], "cut off"))
	e.ok(e.Release(e.ctx, leases[4]))
	e.ok(e.Cancel(e.ctx, ids[5]))
	e.ok(e.Retry(e.ctx, leases[2].ID))
	n, err := e.RetryDead(e.ctx, e.shard, true)
	if err != nil || n != 1 {
		t.Errorf("retry dead: got %d, %v, want 1", n, err)
	}
	e.ok(e.Pause(e.ctx, e.shard, true))
	e.ok(e.Pause(e.ctx, e.shard, false))
	_, err = e.Reap(e.ctx, e.shard)
	e.ok(err)
	want := mom.Depth{Queued: 3, Retrying: 1}
	depth, err := e.Depth(e.ctx, e.shard)
	depth.OldestWait, depth.Bytes = 0, 0
	if err != nil || depth != want {
		t.Errorf("depth: got %+v, %v, want %+v", depth, err, want)
	}
	e.wantAnswer(ids[0], success(strings.Repeat("large ", 10_000)))

	e.ok(e.do("CONFIG", "SET", "maxmemory", "0").Error())
	until(t, "there is room again", func() bool { _, err := e.Add(e.ctx, e.task()); return err == nil })
}

// wantNothingHalf checks that a refused Add wrote nothing: there are as many records as calls,
// and fewer than the given number.
func (e *env) wantNothingHalf(fewer int) {
	e.t.Helper()
	records, calls := 0, 0
	for _, key := range e.existing() {
		switch {
		case strings.Contains(key, "}:t:"):
			records++
		case strings.Contains(key, "}:p:"):
			calls++
		}
	}
	if records != calls || records >= fewer {
		e.t.Errorf("got %d records and %d calls, want the same, fewer than %d", records, calls, fewer)
	}
}

// A record must stay small: a hash table takes five times the room.
func TestRecordsStayListpacks(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redisstore.Config{URL: redistest.Start(t)})
	id := e.add(keyed(strings.Repeat("f", 64), "print"), func(task *mom.NewTask) {
		task.Cause = strings.Repeat("cause ", 50)
		task.Call.Message = bytes.Repeat([]byte("x"), 100_000)
	})
	_, err := e.Spend(e.ctx, e.lease(), strings.Repeat("failure ", 50), time.Millisecond, 9)
	e.ok(err)
	e.reapUntil("it is due", func() bool { return e.state(id) == queued })
	lease := e.lease()
	e.ok(e.MarkSent(e.ctx, lease))
	for _, when := range []string{"sent", "settled"} {
		encoding, err := e.do("OBJECT", "ENCODING", e.key("t:"+id.ULID.String())).ToString()
		if err != nil || encoding != "listpack" {
			t.Errorf("%s: got %q, %v, want listpack", when, encoding, err)
		}
		e.ok(e.Settle(e.ctx, lease, success("done")))
	}
}

func TestCheckRefusesEviction(t *testing.T) {
	t.Parallel()
	server := redistest.New(t, "--maxmemory-policy", "allkeys-lru")
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	if err := e.Check(e.ctx); err == nil || !strings.Contains(err.Error(), "allkeys-lru") {
		t.Errorf("got %v, want an error that names the policy", err)
	}
	e.ok(e.do("CONFIG", "SET", "maxmemory-policy", "noeviction").Error())
	e.ok(e.Check(e.ctx))
}

// Redis can be set to refuse large texts. At the first one, it would close the connection that
// all commands share.
func TestCheckRefusesSmallTexts(t *testing.T) {
	t.Parallel()
	server := redistest.New(t, "--proto-max-bulk-len", "8388607")
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	refuses := func() {
		if err := e.Check(e.ctx); err == nil || errors.Is(err, mom.ErrUnavailable) || !strings.Contains(err.Error(), "proto-max-bulk-len must be 8388608 or more") {
			t.Errorf("got %v, want an error that says what must be set", err)
		}
	}
	refuses()
	e.ok(e.do("CONFIG", "SET", "proto-max-bulk-len", "8388608").Error())
	e.ok(e.Check(e.ctx))
	e.ok(e.do("CONFIG", "SET", "proto-max-bulk-len", "2mb").Error())
	refuses()
}

// Check says that a server has no Lua, and not that the server does not answer.
func TestCheckRefusesNoLua(t *testing.T) {
	t.Parallel()
	server := redistest.New(t, "--rename-command", "EVAL", "", "--rename-command", "EVALSHA", "")
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	if err := e.Check(e.ctx); !errors.Is(err, mom.ErrNotSent) || !strings.Contains(err.Error(), "runs no Lua scripts") {
		t.Errorf("got %v, want an error that says what is missing", err)
	}
}

func TestCheckWarnsOfNoAppendOnlyFile(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	server := redistest.New(t, "--appendonly", "no")
	e := newEnv(t, redisstore.Config{URL: server.URL(), Logger: slog.New(slog.NewTextHandler(&out, nil))})
	e.add()
	for range 3 {
		e.ok(e.Check(e.ctx))
	}
	if got := e.Durability(); !got.Snapshots || got.Unsaved < 1 {
		t.Errorf("durability: got %+v, want changes that are in no file", got)
	}
	server.Ask(t, "SAVE")
	e.ok(e.Check(e.ctx))
	if got := e.Durability(); got != (mom.Durability{Snapshots: true}) {
		t.Errorf("after a snapshot: got %+v, want no changes since", got)
	}
	if got := strings.Count(out.String(), "append-only"); got != 1 {
		t.Errorf("warnings: got %d, want 1: %s", got, out.String())
	}
	server.Kill(t)
	server.Restart(t)
	until(t, "it is back", func() bool { return e.Check(e.ctx) == nil })
	if got := strings.Count(out.String(), "append-only"); got != 2 {
		t.Errorf("warnings after a restart: got %d, want 2: %s", got, out.String())
	}
	server.Ask(t, "CONFIG", "SET", "appendonly", "yes")
	e.ok(e.Check(e.ctx))
	if got := e.Durability(); got != (mom.Durability{}) {
		t.Errorf("with an append-only file: got %+v, want none of it", got)
	}
}

// While Redis loads its append-only file, its INFO says that it has none. Check must not log that.
func TestCheckWhileLoading(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	server := redistest.New(t, "--key-load-delay", "500") // microseconds a command
	e := newEnv(t, redisstore.Config{URL: server.URL(), Logger: slog.New(slog.NewTextHandler(&out, nil))})
	for range 300 { // while loading, it answers after each 1024 commands
		e.add()
	}
	server.Kill(t)
	loaded := make(chan struct{})
	var checks sync.WaitGroup
	checks.Go(func() {
		for {
			err := e.Check(e.ctx)
			select {
			case <-loaded:
				return
			default:
			}
			if err == nil {
				return // it was loaded a moment ago
			}
		}
	})
	server.Restart(t)
	close(loaded)
	checks.Wait()
	if strings.Contains(out.String(), "append-only") {
		t.Errorf("a Redis with an append-only file was said to have none: %s", out.String())
	}
}
