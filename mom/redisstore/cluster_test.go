package redisstore_test

import (
	"context"
	"errors"
	"slices"
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

// onCluster is a store on a cluster, with a shard on each of its masters.
func onCluster(t *testing.T) (*env, *redistest.Cluster, []mom.Shard) {
	t.Helper()
	cluster := redistest.NewCluster(t)
	e := newEnv(t, redisstore.Config{URL: cluster.URL(), Cluster: true, CommandTimeout: 2 * time.Second})
	until(t, "the store is connected", func() bool { return e.Check(e.ctx) == nil })
	var shards []mom.Shard
	var found []*redistest.Server
	for i := 0; len(shards) < 3; i++ {
		e.shard.Index = i
		if node := cluster.Master(e.key("ready")); !slices.Contains(found, node) {
			found, shards = append(found, node), append(shards, e.shard)
		}
	}
	return e, cluster, shards
}

// addIn adds a task to a shard.
func (e *env) addIn(shard mom.Shard) contract.TaskID {
	e.t.Helper()
	e.shard = shard
	return e.add()
}

// Shards on all nodes of a cluster work as one shard does, also when a replica is down.
func TestClusterShards(t *testing.T) {
	t.Parallel()
	e, cluster, shards := onCluster(t)
	isMaster := func(node *redistest.Server) bool {
		return slices.ContainsFunc(shards, func(shard mom.Shard) bool { e.shard = shard; return cluster.Master(e.key("ready")) == node })
	}
	cluster.Nodes[slices.IndexFunc(cluster.Nodes, func(node *redistest.Server) bool { return !isMaster(node) })].Kill(t)
	e.ok(e.Check(e.ctx))
	l := e.watch(shards...)
	var want []string
	for _, shard := range shards {
		e.shard = shard
		waiting := e.rings(e.ctx)
		id := e.add()
		e.ok(<-waiting)
		e.ok(e.Listen(e.ctx, id))
		e.ok(e.Settle(e.ctx, e.lease(), success("done")))
		e.wantAnswer(id, success("done"))
		want = append(want, event(id, queued), event(id, running), event(id, succeeded))
		tasks, next, err := e.List(e.ctx, shard, e.caller, "", 10, nil)
		if err != nil || next != "" || len(tasks) != 1 || tasks[0].GetId() != id.String() {
			t.Errorf("list: got %v, %q, %v, want %s", tasks, next, err, id)
		}
	}
	// Events of different nodes come in any order.
	until(t, "all events", func() bool {
		got, _ := l.seen()
		return len(got) == len(want) && !slices.ContainsFunc(want, func(e string) bool { return !slices.Contains(got, e) })
	})
}

// A master dies and its replica takes its place. Until then calls fail as they do without a
// Redis. After that all is as before.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	e, cluster, shards := onCluster(t)
	l := e.watch(shards...)
	e.shard = shards[0]
	ids := []contract.TaskID{e.add(undeclared), e.addIn(shards[1]), e.addIn(shards[2])}
	e.shard = shards[0]
	lease := e.lease()
	cluster.Replicate(t)

	cluster.Master(e.key("ready")).Kill(t)
	failed := 0
	until(t, "the shard is back", func() bool {
		err := e.MarkSent(e.ctx, lease)
		if err != nil && !errors.Is(err, mom.ErrUnavailable) {
			t.Fatalf("meanwhile: got %v, want ErrUnavailable", err)
		}
		if err != nil {
			failed++
		}
		return err == nil
	})
	if failed == 0 {
		t.Error("nobody noticed")
	}
	until(t, "it can be trusted again", func() bool {
		err := e.Check(e.ctx)
		if err != nil && !errors.Is(err, mom.ErrUnavailable) {
			t.Fatalf("check: got %v, want ErrUnavailable", err)
		}
		return err == nil
	})
	for _, shard := range shards { // the other nodes may hear of it later
		until(t, "each node knows", func() bool { _, err := e.Depth(e.ctx, shard); return err == nil })
	}
	e.ok(e.Settle(e.ctx, lease, success("done")))
	e.wantAnswer(ids[0], success("done"))
	for i, shard := range shards[1:] {
		e.shard = shard
		if got := e.lease(); got.ID != ids[i+1] {
			t.Errorf("leased: got %v, want %v", got.ID, ids[i+1])
		}
	}
	e.shard = shards[0]
	waiting := e.rings(e.ctx)
	id := e.add()
	e.ok(<-waiting)
	until(t, "its event", func() bool { got, _ := l.seen(); return slices.Contains(got, event(id, queued)) })
}

// When the node that a watch is connected to dies, the watch connects to another one.
func TestClusterWatchMoves(t *testing.T) {
	t.Parallel()
	e, cluster, shards := onCluster(t)
	l := e.watch(shards...)
	for _, node := range cluster.Nodes {
		if node.Ask(t, "CLIENT", "LIST", "TYPE", "pubsub") != "" {
			node.Kill(t)
			break
		}
	}
	until(t, "a second resync", func() bool { _, n := l.seen(); return n == 2 })
	for _, shard := range shards {
		e.shard = shard
		var id contract.TaskID
		until(t, "a task is taken", func() bool {
			added, err := e.Add(e.ctx, e.task())
			id = added.ID
			return err == nil
		})
		until(t, "its event", func() bool { got, _ := l.seen(); return slices.Contains(got, event(id, queued)) })
	}
}

// A silent node delays the shards on other nodes no more than a node that is down.
func TestClusterNodeIsSilent(t *testing.T) {
	t.Parallel()
	e, cluster, shards := onCluster(t)
	e.shard = shards[0]
	e.add()
	silent := cluster.Master(e.key("ready"))
	elsewhere := e.shard
	for _, shard := range shards {
		if e.shard = shard; cluster.Master(e.key("ready")) != silent {
			elsewhere = shard
		}
	}
	silent.Freeze(t)
	t.Cleanup(func() { silent.Thaw(t) })
	ctx, stop := context.WithCancel(e.ctx)
	var calls sync.WaitGroup
	on := *e
	on.shard = shards[0]
	for range 300 {
		calls.Go(func() {
			for ctx.Err() == nil {
				bounded, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
				_, _ = e.Add(bounded, on.task()) // it cannot be stored
				cancel()
			}
		})
	}
	e.shard = elsewhere
	for range 100 {
		e.add()
	}
	stop()
	calls.Wait()
}

// Check does not wait for a node that is silent, be it a master or a replica.
func TestClusterCheckOfSilentNodes(t *testing.T) {
	t.Parallel()
	_, cluster, _ := onCluster(t)
	for _, role := range []string{"role:slave", "role:master"} {
		until(t, "all others were looked at, beside a silent node with "+role, func() bool {
			// rueidis gives a silent node up after a second, and does not wait for it again.
			e := newEnv(t, redisstore.Config{URL: cluster.URL(), Cluster: true, CommandTimeout: 900 * time.Millisecond})
			until(t, "the store is connected", func() bool { return e.Check(e.ctx) == nil })
			silent := cluster.Nodes[slices.IndexFunc(cluster.Nodes, func(node *redistest.Server) bool {
				return strings.Contains(node.Ask(t, "INFO", "replication"), role)
			})]
			silent.Freeze(t)
			defer silent.Thaw(t)
			return e.Check(e.ctx) == nil
		})
	}
}

// Of a cluster that serves nobody, because a slot has no node, Check says so.
func TestClusterIsDown(t *testing.T) {
	t.Parallel()
	e, cluster, _ := onCluster(t)
	slot := 0 // of none of our keys
	for _, node := range cluster.Nodes {
		node.Ask(t, "CLUSTER", "DELSLOTS", strconv.Itoa(slot))
	}
	until(t, "nothing can be stored", func() bool { _, err := e.Add(e.ctx, e.task()); return err != nil })
	until(t, "all nodes know it", func() bool {
		err := e.Check(e.ctx)
		return errors.Is(err, mom.ErrNotSent) && strings.Contains(err.Error(), "CLUSTERDOWN")
	})
}

// A cluster without slots, as one is before it is made, is no store.
func TestClusterWithoutSlots(t *testing.T) {
	t.Parallel()
	cluster := redistest.NewCluster(t)
	for _, node := range cluster.Nodes {
		node.Ask(t, "CLUSTER", "RESET")
	}
	e := newEnv(t, redisstore.Config{URL: cluster.URL(), Cluster: true, CommandTimeout: 2 * time.Second})
	until(t, "Check says so", func() bool { err := e.Check(e.ctx); return err != nil && strings.Contains(err.Error(), "slot") })
}

// While a slot moves to another node, transitions of its shard are refused before they begin, and not ended midway.
func TestClusterSlotMoves(t *testing.T) {
	t.Parallel()
	e, cluster, shards := onCluster(t)
	e.shard = shards[0]
	e.add()
	from := cluster.Master(e.key("ready"))
	for _, missing := range [][]string{
		{"RPUSH", "dead"}, {"SET", "bell"}, {"ZADD", "lease", "1"}, {"ZADD", "later", "1"}, {"SET", "paused"}, {"ZADD", "gone", "1"},
	} {
		from.Ask(t, slices.Concat(missing[:1], []string{e.key(missing[1])}, missing[2:], []string{"x"})...)
	}
	e.shard = shards[1]
	to := cluster.Master(e.key("ready"))
	e.shard = shards[0]
	slot := from.Ask(t, "CLUSTER", "KEYSLOT", e.key("ready"))
	to.Ask(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", from.Ask(t, "CLUSTER", "MYID"))
	from.Ask(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", to.Ask(t, "CLUSTER", "MYID"))
	if _, err := e.Add(e.ctx, e.task()); !errors.Is(err, mom.ErrNotSent) {
		t.Errorf("meanwhile: got %v, want ErrNotSent", err)
	}
	from.Ask(t, "CLUSTER", "SETSLOT", slot, "STABLE")
	to.Ask(t, "CLUSTER", "SETSLOT", slot, "STABLE")
	e.add()
}
