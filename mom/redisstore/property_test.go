package redisstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// Whatever happens in whatever order, each task is in exactly one place, and
// none is lost.
func TestRandomOperations(t *testing.T) {
	t.Parallel()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		randomOperations(t, newEnv(t, redisstore.Config{URL: redistest.Start(t)}))
	})
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		randomOperations(t, newEnv(t, redisstore.Config{URL: redistest.Mini(t), Embedded: true}))
	})
}

func randomOperations(t *testing.T, e *env) {
	run := 0
	rapid.Check(t, func(r *rapid.T) {
		run++
		e.shard.Index = run // a shard of its own for each run
		if e.cfg.Embedded {
			// Its own server, which looks at each key's expiry with each command.
			e.ok(e.do("FLUSHALL").Error())
		}
		w := world{env: e, r: r, answers: make(map[contract.TaskID]*momv1.Answer)}
		r.Repeat(map[string]func(*rapid.T){
			"add": w.add, "lease": w.lease, "mark": w.mark, "settle": w.settle, "release": w.release,
			"retry": w.retry, "park": w.park, "renew": w.renew, "cancel": w.cancel, "revive": w.revive,
			"revive dead": w.reviveDead, "pause": w.pause, "reap": w.reap, "": w.check,
		})
	})
}

// world is what the test did so far.
type world struct {
	*env
	r       *rapid.T
	tasks   []contract.TaskID
	leases  []mom.Lease // also those that are long lost
	answers map[contract.TaskID]*momv1.Answer
}

// may fails the run on any error but those that the operation may have.
func (w *world) may(err error, allowed ...error) {
	for _, a := range allowed {
		if errors.Is(err, a) {
			return
		}
	}
	if err != nil {
		w.r.Fatal(err)
	}
}

func pick[T any](r *rapid.T, from []T) T {
	if len(from) == 0 {
		r.Skip("none yet")
	}
	return rapid.SampledFrom(from).Draw(r, "which")
}

func (w *world) add(r *rapid.T) {
	task := w.task()
	task.Repeatable = rapid.Bool().Draw(r, "repeatable")
	task.TTL = rapid.SampledFrom([]time.Duration{time.Millisecond, time.Hour, time.Hour}).Draw(r, "ttl")
	if key := rapid.IntRange(0, 9).Draw(r, "key"); key < 4 {
		task.KeyHash = fmt.Sprint(key)
		task.Fingerprint = rapid.SampledFrom([]string{"a", "b"}).Draw(r, "request")
	}
	added, err := w.Add(w.ctx, task)
	w.may(err, mom.ErrKeyReused)
	if err == nil && !added.Attached {
		w.tasks = append(w.tasks, added.ID)
	}
}

func (w *world) lease(r *rapid.T) {
	d := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Hour, time.Hour}).Draw(r, "for")
	leases, err := w.Lease(w.ctx, w.shard, rapid.IntRange(1, 3).Draw(r, "n"), d)
	w.may(err)
	w.leases = append(w.leases, leases...)
}

func (w *world) mark(r *rapid.T) { w.may(w.MarkSent(w.ctx, pick(r, w.leases)), mom.ErrFenced) }
func (w *world) release(r *rapid.T) {
	w.may(w.Release(w.ctx, pick(r, w.leases)), mom.ErrFenced)
}
func (w *world) park(r *rapid.T) { w.may(w.Park(w.ctx, pick(r, w.leases), "cut off"), mom.ErrFenced) }

func (w *world) settle(r *rapid.T) {
	lease, answer := pick(r, w.leases), success(fmt.Sprint(len(w.answers)))
	err := w.Settle(w.ctx, lease, answer)
	w.may(err, mom.ErrFenced)
	if _, settled := w.answers[lease.ID]; err == nil && !settled {
		w.answers[lease.ID] = answer
	}
}

func (w *world) retry(r *rapid.T) {
	backoff := rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(r, "backoff")
	_, err := w.Retry(w.ctx, pick(r, w.leases), "reset", backoff, rapid.IntRange(1, 3).Draw(r, "max"))
	w.may(err, mom.ErrFenced)
}

func (w *world) renew(r *rapid.T) {
	_, err := w.Renew(w.ctx, w.shard, []mom.Lease{pick(r, w.leases)}, time.Hour)
	w.may(err)
}

func (w *world) cancel(r *rapid.T) { w.may(w.Cancel(w.ctx, pick(r, w.tasks)), mom.ErrTaskState) }
func (w *world) revive(r *rapid.T) { w.may(w.Revive(w.ctx, pick(r, w.tasks)), mom.ErrTaskState) }

func (w *world) reviveDead(r *rapid.T) {
	_, err := w.ReviveDead(w.ctx, w.shard, rapid.Bool().Draw(r, "uncertain"))
	w.may(err)
}

func (w *world) pause(r *rapid.T) {
	w.may(w.Pause(w.ctx, w.shard, rapid.IntRange(0, 3).Draw(r, "paused") == 0))
}

func (w *world) reap(*rapid.T) {
	_, err := w.Reap(w.ctx, w.shard)
	w.may(err)
}

// members counts how often each ULID is in a list or sorted set.
func (w *world) members(name string, command ...string) map[string]int {
	words, err := w.do(append([]string{command[0], w.key(name)}, command[1:]...)...).AsStrSlice()
	w.may(err)
	counts := make(map[string]int)
	for _, word := range words {
		ulid, _, _ := strings.Cut(word, " ")
		counts[ulid]++
	}
	return counts
}

func (w *world) exists(key string) bool {
	n, err := w.do("EXISTS", w.key(key)).AsInt64()
	w.may(err)
	return n == 1
}

func (w *world) check(r *rapid.T) {
	places := map[string]map[string]int{
		"ready": w.members("ready", "LRANGE", "0", "-1"), "dead": w.members("dead", "LRANGE", "0", "-1"),
		"lease": w.members("lease", "ZRANGE", "0", "-1"), "later": w.members("later", "ZRANGE", "0", "-1"),
		"ttl": w.members("ttl", "ZRANGE", "0", "-1"), "gone": w.members("gone", "ZRANGE", "0", "-1"),
		"c:anonymous": w.members("c:anonymous", "ZRANGE", "0", "-1"),
	}
	where := map[momv1.TaskState][]string{
		queued: {"ready", "ttl"}, running: {"lease", "ttl"}, retrying: {"later", "ttl"}, dead: {"dead"}, uncertain: {"dead"},
		succeeded: {"gone"}, failed: {"gone"}, cancelled: {"gone"}, expired: {"gone"},
	}
	sizes := make(map[string]int)
	for _, id := range w.tasks {
		name := id.ULID.String()
		task, answer, err := w.Get(w.ctx, id)
		if err != nil {
			r.Fatalf("%s is lost: %v", name, err)
		}
		want := map[string]int{"c:anonymous": 1}
		for _, place := range where[task.State] {
			want[place] = 1
		}
		for place, members := range places {
			if members[name] != want[place] {
				r.Fatalf("%s is %v: got it %d times in %s, want %d", name, task.State, members[name], place, want[place])
			}
			sizes[place] += want[place]
		}
		ended := want["gone"] == 1
		if w.exists("p:"+name) == ended {
			r.Fatalf("%s is %v: has its call: %v", name, task.State, !ended)
		}
		left, err := w.do("PTTL", w.key("t:"+name)).AsInt64()
		if err != nil || (left > 0) != ended {
			r.Fatalf("%s is %v: its record expires in %d ms", name, task.State, left)
		}
		if !proto.Equal(answer, w.answers[id]) {
			r.Fatalf("%s is %v: answer: got %v, want %v", name, task.State, answer, w.answers[id])
		}
	}
	for place, members := range places {
		if len(members) != sizes[place] {
			r.Fatalf("%s: got %d members, want %d: %v", place, len(members), sizes[place], members)
		}
	}
	depth, err := w.Depth(w.ctx, w.shard)
	w.may(err)
	if got, want := [4]int64{depth.Queued, depth.Running, depth.Retrying, depth.Dead},
		[4]int64{int64(sizes["ready"]), int64(sizes["lease"]), int64(sizes["later"]), int64(sizes["dead"])}; got != want {
		r.Fatalf("depth: got %v, want %v", got, want)
	}
}
