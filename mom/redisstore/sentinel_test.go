package redisstore_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// The master dies or is told to hand over, and its replica becomes the master: tasks that were
// replicated go on.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(testing.TB, *redistest.Sentinel){
		"dies":       func(t testing.TB, servers *redistest.Sentinel) { servers.Master.Kill(t) },
		"hands over": func(t testing.TB, servers *redistest.Sentinel) { servers.HandOver(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sentinelFailover(t, end)
		})
	}
}

func sentinelFailover(t *testing.T, end func(testing.TB, *redistest.Sentinel)) {
	servers := redistest.NewSentinel(t)
	store, err := redisstore.Open(redisstore.Config{
		URL: servers.URL(), SentinelMaster: redistest.SentinelMaster, CommandTimeout: 2 * time.Second, DialTimeout: 2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	e := newEnv(t, redisstore.Config{URL: servers.Replica.URL()}) // to look behind it
	e.Store = store
	until(t, "the store is connected", func() bool { return e.Check(e.ctx) == nil })
	l := e.watch(e.shard)
	first, second := e.add(), e.add()
	lease := e.lease()
	servers.Master.Replicate(t)

	end(t, servers)
	until(t, "the replica is the master", func() bool {
		err := e.MarkSent(e.ctx, lease)
		if err != nil && !errors.Is(err, mom.ErrUnavailable) {
			t.Fatalf("meanwhile: got %v, want ErrUnavailable", err)
		}
		return err == nil
	})
	until(t, "it can be trusted", func() bool { return e.Check(e.ctx) == nil })
	e.ok(e.Settle(e.ctx, lease, success("done")))
	e.wantAnswer(first, success("done"))
	if got := e.lease(); got.ID != second {
		t.Errorf("leased: got %v, want %v", got.ID, second)
	}
	until(t, "a second resync", func() bool { _, n := l.seen(); return n >= 2 })
	id := e.add()
	until(t, "its event", func() bool { got, _ := l.seen(); return slices.Contains(got, event(id, queued)) })
}

// Sentinels that come later are found. Until then, errors say what is missing.
func TestSentinelComesLater(t *testing.T) {
	t.Parallel()
	servers := redistest.NewSentinel(t)
	e := newEnv(t, redisstore.Config{URL: servers.Master.URL()})
	open := func(cfg redisstore.Config) *redisstore.Store {
		t.Helper()
		store, err := redisstore.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		return store
	}
	e.Store = open(redisstore.Config{URL: servers.URL(), SentinelMaster: "another"})
	err := e.Check(e.ctx)
	if !errors.Is(err, mom.ErrUnavailable) || !strings.Contains(err.Error(), "not connected yet") {
		t.Errorf("a master that nobody knows: got %v, want ErrUnavailable that says why", err)
	}
	// The first of two sentinels is down.
	gone := "redis://127.0.0.1:1," + strings.TrimPrefix(servers.URL(), "redis://")
	e.Store = open(redisstore.Config{URL: gone, SentinelMaster: redistest.SentinelMaster})
	var id contract.TaskID
	until(t, "a task is taken", func() bool {
		added, err := e.Add(e.ctx, e.task())
		id = added.ID
		return err == nil
	})
	e.wantState(id, queued)
}
