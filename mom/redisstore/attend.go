package redisstore

import (
	"context"
	"slices"
	"time"

	"holdline/mom"
)

// attendance records what the replayer of a shard in this process is about to do. The mutex of the turns guards it.
type attendance struct {
	attended bool
	room     mom.Room
	waits    *asked // a lease that waits, to be made in the same turn as the next new tasks; nil: none
	relied   bool   // new tasks were left to this process's replayer, and no other MOM was called
}

// Attend implements mom.Store.
func (s *Store) Attend(shard mom.Shard, attended bool, room mom.Room) {
	t := &s.keys(shard).turns
	t.mu.Lock()
	defer t.mu.Unlock()
	leaves := t.attended && !attended && t.relied
	t.attended, t.room = attended, room
	if leaves {
		t.relied = false
		go t.callOthers()
	}
}

// Await implements mom.Store. Watch rings the bell when it gets such a message on its one connection, and so does a turn that leaves
// new tasks to this process. So waiting costs Redis nothing, however many shards there are.
func (s *Store) Await(ctx context.Context, shard mom.Shard, d time.Duration) (leases []mom.Lease, more bool, err error) {
	t := &s.keys(shard).turns
	lease := &asked{kind: aLease, argv: []string{millis(d)}, done: make(chan struct{})}
	t.mu.Lock()
	t.waits = lease
	t.mu.Unlock()
	select {
	case <-lease.done:
		return s.readLeases(ctx, shard, lease, lease.reply, lease.err)
	case <-t.keys.bell:
	case <-ctx.Done():
		err = ctx.Err()
	}
	t.mu.Lock()
	if t.waits == lease {
		t.waits = nil
	}
	taken := lease.taken
	t.mu.Unlock()
	if !taken {
		return nil, true, err
	}
	<-lease.done // the lease is on its way, and may have been sent before the bell rang
	t.keys.bell.ring()
	return s.readLeases(ctx, shard, lease, lease.reply, lease.err)
}

// along adds the lease that waits to a batch of a turn that has new tasks, unless the batch has a lease already. The caller holds mu.
func (t *turns) along(batch []*asked) []*asked {
	if t.waits == nil || t.room.Tasks == 0 || slices.ContainsFunc(batch, func(a *asked) bool { return a.kind == aLease }) {
		return batch
	}
	t.waits.argv = roomFor(t.room, t.waits.argv[0])
	t.waits.taken = true
	batch, t.waits = append(batch, t.waits), nil
	return batch
}

// leased is called when a turn has leased as many tasks as there was room for, and has called other MOMs for the rest.
func (t *turns) leased() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.relied = false
}

// left is called when a turn has left new tasks to the replayer of this process. It has the replayer lease them, or calls other MOMs if the replayer does not attend any more.
func (t *turns) left() {
	t.mu.Lock()
	t.relied = t.attended
	relied := t.relied
	t.mu.Unlock()
	if !relied {
		t.callOthers()
	}
	t.keys.bell.ring()
}

// callOthers rings the bell of all MOMs. If Redis does not answer, they find the tasks when they reap the shard.
func (t *turns) callOthers() {
	if err := t.store.do(context.Background(), callScript, t.keys, args{}); err != nil {
		t.store.log.Debug("others not called", "shard", t.keys.base, "error", err)
	}
}
