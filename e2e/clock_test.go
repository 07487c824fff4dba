package e2e

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/mom"
)

// gated is a ledger whose calls wait, once they have begun, until they are let go.
func gated() (l *ledger, entered, release chan struct{}) {
	entered, release = make(chan struct{}), make(chan struct{})
	var once sync.Once
	return &ledger{during: func(ctx context.Context, _ int64) {
		once.Do(func() { close(entered) })
		select {
		case <-release:
		case <-ctx.Done():
		}
	}}, entered, release
}

// A MOM is killed while it holds a lease, and then the clock of Redis is set back:
// the lease ends as soon as any other, not an hour later.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	h := deployAs(t, layout{clocked: true})
	l, entered, release := gated()
	run(t, l.serve(t, h.ledger))
	id, _ := h.postAsync(t, 1, 10)
	wait(t, entered, "the call has reached the ledger")
	h.moms[0].kill(t)
	close(release)
	h.clock.Run(t, -time.Hour)
	h.moms[0].restart(t)
	awaitState(t, h.addr, id, uncertain)
	if got := l.ran(1); got != 1 {
		t.Errorf("ran %d times, want once", got)
	}
}

// The clock of Redis is set ahead while a call is under way: its MOM goes on to renew
// the lease, so nobody else may end it, and the answer counts.
func TestClockSetAhead(t *testing.T) {
	t.Parallel()
	h := deployAs(t, layout{moms: 2, clocked: true})
	h.moms[1].kill(t)
	l, entered, release := gated()
	run(t, l.serve(t, h.ledger))
	id, _ := h.postAsync(t, 1, 10, "Holdline-Ttl: 12h")
	wait(t, entered, "the call has reached the ledger")
	h.clock.Run(t, time.Hour)
	h.moms[1].restart(t) // looks at all shards at once
	awaitReady(t, h.momAddr[1])
	eventually(t, func() bool { return h.leaseEnd(t, id) > time.Now().Add(time.Hour).UnixMilli() }, "the lease is renewed")
	close(release)
	awaitState(t, h.addr, id, momv1.TaskState_TASK_STATE_SUCCEEDED)
	if got := l.ran(1); got != 1 {
		t.Errorf("ran %d times, want once", got)
	}
}

// Redis is silent for longer than a lease while a call is under way: its MOM could
// not renew the lease, does so when Redis is back, and the answer counts.
func TestRedisFrozenForALease(t *testing.T) {
	t.Parallel()
	h := deploy(t, 1)
	l, entered, release := gated()
	run(t, l.serve(t, h.ledger))
	id, _ := h.postAsync(t, 1, 10)
	wait(t, entered, "the call has reached the ledger")
	h.redis.Freeze(t)
	end := time.Now().Add(mom.LongestLease)
	eventually(t, func() bool { return time.Now().After(end) }, "the lease is over")
	h.redis.Thaw(t)
	awaitReady(t, h.momAddr[0])
	eventually(t, func() bool { return h.leaseEnd(t, id) > time.Now().UnixMilli() }, "the lease is renewed")
	close(release)
	awaitState(t, h.addr, id, momv1.TaskState_TASK_STATE_SUCCEEDED)
	if got := l.ran(1); got != 1 {
		t.Errorf("ran %d times, want once", got)
	}
}

// leaseEnd reads when the lease of a task ends, in ms; 0 when it has none.
func (h *house) leaseEnd(tb testing.TB, id string) int64 {
	tb.Helper()
	shard, name := id[:strings.LastIndexByte(id, '.')], id[strings.LastIndexByte(id, '.')+1:]
	at := strings.LastIndexByte(shard, '.')
	reply := h.redis.Ask(tb, "ZSCORE", "hl:{"+shard[:at]+"#"+shard[at+1:]+"}:lease", name)
	end, _ := strconv.ParseInt(strings.TrimSpace(reply), 10, 64)
	return end
}
