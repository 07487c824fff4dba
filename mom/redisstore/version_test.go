package redisstore_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/mom"
)

// unknownVersion is a version that this release does not know.
var unknownVersion = strconv.Itoa(mom.NewestRecord + 1)

// setVersion sets the version of a task's record.
func (e *env) setVersion(id contract.TaskID, v string) {
	e.t.Helper()
	e.ok(e.do("HSET", e.key("t:"+id.ULID.String()), "v", v).Error())
}

// A record of another release is neither read nor changed.
func TestUnknownRecordVersion(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		id := e.add()
		e.setVersion(id, unknownVersion)
		_, _, get := e.Get(e.ctx, id)
		_, lease := e.Lease(e.ctx, e.shard, 2, time.Hour)
		for what, err := range map[string]error{
			"get": get, "lease": lease, "cancel": e.Cancel(e.ctx, id), "retry": e.Retry(e.ctx, id),
			"dismiss": e.Dismiss(e.ctx, id),
			"settle":  e.Settle(e.ctx, mom.Lease{ID: id}, success("done")),
		} {
			if !errors.Is(err, mom.ErrRecordVersion) {
				t.Errorf("%s: got %v, want ErrRecordVersion", what, err)
			}
		}
		e.setVersion(id, "1")
		e.wantState(id, queued)
		if got := e.order(); len(got) != 1 {
			t.Errorf("queue: got %v, want the task", got)
		}
	})
}

// Tasks of a newer release keep their places until its MOMs come, and do not block other tasks.
func TestTasksBehindThoseOfANewerRelease(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		newer, own := []contract.TaskID{e.add(), e.add()}, []contract.TaskID{e.add()}
		newer = append(newer, e.add())
		own = append(own, e.add(), e.add())
		for _, id := range newer {
			e.setVersion(id, unknownVersion)
		}
		leases, err := e.Lease(e.ctx, e.shard, 2, time.Hour)
		if err != nil || len(leases) != 2 || leases[0].ID != own[0] || leases[1].ID != own[1] {
			t.Errorf("leased: got %v, %v, want %v", leases, err, own[:2])
		}
		e.ok(e.Release(e.ctx, leases[1]))
		if got := e.order(); !slices.Equal(got, own[1:]) {
			t.Errorf("then: got %v, want %v", got, own[1:])
		}
		// What a MOM of the newer release finds.
		for _, id := range newer {
			e.setVersion(id, "1")
		}
		if got := e.order(); !slices.Equal(got, newer) {
			t.Errorf("left: got %v, want %v", got, newer)
		}
	})
}

// Due tasks of a newer release are left to that release, and do not block others.
func TestReapLeavesANewerRelease(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		var newer []contract.TaskID
		for range 120 { // more than a batch
			newer = append(newer, e.add())
		}
		leases, err := e.Lease(e.ctx, e.shard, len(newer), time.Millisecond)
		if err != nil || len(leases) != len(newer) {
			t.Fatalf("lease: got %d, %v, want %d", len(leases), err, len(newer))
		}
		for _, id := range newer {
			e.setVersion(id, unknownVersion)
		}
		own := e.add()
		e.leaseFor(time.Millisecond)
		e.reapUntil("the lease ends", func() bool { return e.state(own) == queued })
		if reaped, err := e.Reap(e.ctx, e.shard); err != nil || reaped.Next < time.Second {
			t.Errorf("reap: got %v, %v, want a pause", reaped.Next, err)
		}
		if depth, err := e.Depth(e.ctx, e.shard); err != nil || depth.Running != int64(len(newer)) {
			t.Errorf("depth: got %+v, %v, want %d running", depth, err, len(newer))
		}
	})
}

// The record of a task has at least the version of its call: a release that does not know the version
// passes over the task.
func TestRecordVersion(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		id := e.add(func(task *mom.NewTask) { task.Call.RecordVersion = mom.NewestRecord + 1 })
		if got, err := e.do("HGET", e.key("t:"+id.ULID.String()), "v").ToString(); got != unknownVersion {
			t.Errorf("v = %q, %v, want %s", got, err, unknownVersion)
		}
		id = e.add(func(task *mom.NewTask) { task.Call.RecordVersion = 2 })
		if got, err := e.do("HGET", e.key("t:"+id.ULID.String()), "v").ToString(); got != "4" {
			t.Errorf("v = %q, %v, want 4", got, err)
		}
		e.wantState(id, queued)
		if got := e.order(); len(got) != 1 || got[0] != id {
			t.Errorf("queue: got %v, want the task", got)
		}
	})
}
