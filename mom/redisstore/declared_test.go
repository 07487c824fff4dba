package redisstore_test

import (
	"errors"
	"testing"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/mom"
)

// A task whose method may not run twice any more is sent if it surely has not run, and is
// UNCERTAIN if its lease ends. One that may have run is UNCERTAIN at once; no attempt is counted.
func TestMarkUndeclared(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		fresh := e.add()
		lease := e.lease()
		lease.Repeatable = false
		e.ok(e.MarkSent(e.ctx, lease))
		e.ok(e.MarkSent(e.ctx, lease)) // the reply was lost
		e.ok(e.Release(e.ctx, lease))
		if again := e.lease(); again.ID != fresh || again.Repeatable {
			t.Errorf("leased %v, repeatable %v; want %v, which is so no more", again.ID, again.Repeatable, fresh)
		}

		tried := e.add()
		lease = e.lease()
		e.ok(e.MarkSent(e.ctx, lease))
		if _, err := e.Spend(e.ctx, lease, "reset", 0, 20); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Reap(e.ctx, e.shard); err != nil {
			t.Fatal(err)
		}
		lease = e.lease()
		lease.Repeatable = false
		if err := e.MarkSent(e.ctx, lease); !errors.Is(err, mom.ErrFenced) {
			t.Errorf("mark: %v, want it fenced", err)
		}
		task, _, err := e.Get(e.ctx, tried)
		if err != nil || task.GetState() != momv1.TaskState_TASK_STATE_UNCERTAIN || task.GetAttempts() != 1 {
			t.Errorf("task = %v, %v; want it UNCERTAIN after one attempt", task, err)
		}
	})
}

// An Add with a key that was used with another fingerprint returns the first request. With the
// first fingerprint as its Twin, it attaches to the first task.
func TestReusedKeyTellsOfTheFirst(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		want := mom.Request{Fingerprint: "a", Known: "b", JSON: true, Schema: "s"}
		first := e.add(func(task *mom.NewTask) { task.KeyHash, task.Request = "key", want })
		other := e.task()
		other.KeyHash, other.Request = "key", mom.Request{Fingerprint: "c"}
		_, err := e.Add(e.ctx, other)
		var reused *mom.KeyReusedError
		if !errors.As(err, &reused) || reused.First != want || reused.Call != nil {
			t.Fatalf("got %v, %+v; want %+v without its call", err, reused, want)
		}
		other.Twin = "a"
		if added, err := e.Add(e.ctx, other); err != nil || !added.Attached || added.ID != first {
			t.Errorf("got %+v, %v; want it attached to %v", added, err, first)
		}

		older := e.add(keyed("older", "a")) // without a schema
		other = e.task()
		other.KeyHash, other.Fingerprint = "older", "b"
		if _, err := e.Add(e.ctx, other); !errors.As(err, &reused) || string(reused.Call.GetMessage()) != string(other.Call.GetMessage()) {
			t.Errorf("got %v, %+v; want the call of %v", err, reused, older)
		}
	})
}

// A schema is kept, for longer than a parked task.
func TestSchemas(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		if _, err := e.Schema(e.ctx, "name"); !errors.Is(err, mom.ErrNotFound) {
			t.Errorf("a schema that was not kept: %v, want ErrNotFound", err)
		}
		e.ok(e.KeepSchema(e.ctx, "name", []byte("\x00\xff")))
		if raw, err := e.Schema(e.ctx, "name"); err != nil || string(raw) != "\x00\xff" {
			t.Errorf("got %q, %v; want what was kept", raw, err)
		}
		left, err := e.raw.Do(e.ctx, e.raw.B().Pttl().Key(e.cfg.Prefix+"hl:schema:name").Build()).AsInt64()
		if life := time.Duration(left) * time.Millisecond; err != nil || life < 38*24*time.Hour {
			t.Errorf("it is kept for %v, %v; want longer than a parked task", life, err)
		}
	})
}
