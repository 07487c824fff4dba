package redisstore_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// A task with a damaged record ends, and does not block others.
func TestDamagedRecords(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		for _, field := range []string{"x", "o", "n", "e", "s", "u", "w", "r"} {
			for _, leased := range []bool{false, true} {
				damaged := e.add(undeclared)
				if leased {
					e.leaseFor(time.Millisecond)
				}
				key := e.key("t:" + damaged.ULID.String())
				e.ok(e.do("HSET", key, field, "").Error())
				next := e.add()
				until(t, "the next is leased", func() bool {
					_, err := e.Reap(e.ctx, e.shard)
					e.ok(err)
					leases, err := e.Lease(e.ctx, e.shard, 10, time.Hour)
					e.ok(err)
					for _, lease := range leases {
						if err := e.Settle(e.ctx, lease, success("done")); err != nil && !errors.Is(err, mom.ErrFenced) {
							t.Errorf("without %s: settle: %v", field, err)
						}
					}
					return e.state(next) == succeeded
				})
			}
		}
	})
}

// Calls that somebody has deleted take no room for ever.
func TestDeletedRecords(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		gone, stays := e.add(), e.add()
		e.ok(e.do("DEL", e.key("t:"+gone.ULID.String())).Error())
		e.ok(e.do("DEL", e.key("p:"+gone.ULID.String())).Error())
		bytes := func() int64 {
			_, err := e.Reap(e.ctx, e.shard)
			e.ok(err)
			depth, err := e.Depth(e.ctx, e.shard)
			e.ok(err)
			return depth.Bytes
		}
		if bytes() == 0 {
			t.Error("no bytes, and a call is stored")
		}
		leases, err := e.Lease(e.ctx, e.shard, 10, time.Hour)
		e.ok(err)
		for _, lease := range leases {
			e.ok(e.Settle(e.ctx, lease, success("done")))
		}
		if got := bytes(); got != 0 || e.state(stays) != succeeded {
			t.Errorf("%d bytes, and no call is stored", got)
		}
	})
}

// An error in the middle of a script is logged with the script and its task, and is never taken
// for a command that was not sent.
func TestScriptFailsMidway(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	e := newEnv(t, redisstore.Config{URL: redistest.Start(t), Logger: slog.New(slog.NewTextHandler(&out, nil))})
	e.ok(e.do("SET", e.key("ttl"), "no set").Error())
	task := e.task()
	_, err := e.Add(e.ctx, task)
	if err == nil || errors.Is(err, mom.ErrNotSent) {
		t.Errorf("got %v, want an error that is not certain", err)
	}
	if text := out.String(); !strings.Contains(text, "script=turn") || !strings.Contains(text, "tasks=["+task.ID.String()+"]") {
		t.Errorf("log: got %q, want the script and the task", text)
	}
}
