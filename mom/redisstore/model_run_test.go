package redisstore_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

const (
	modelTombstone, modelMax       = 30 * time.Second, 12
	modelParkedTTL, modelMaxParked = 5 * time.Minute, 150 // three calls
)

var modelStart = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// Two MOMs do things to a shard in random order, at random times. Each result, each task and each
// list is what the model says, to the millisecond.
func TestModel(t *testing.T) {
	t.Parallel()
	cfg := redisstore.Config{TombstoneTTL: modelTombstone, MaxQueued: modelMax, ParkedTTL: modelParkedTTL, MaxParkedBytes: modelMaxParked}
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		server, clock := redistest.NewClocked(t, modelStart, "--appendonly", "no")
		cfg := cfg
		cfg.URL = server.URL()
		checkModel(t, cfg, clock)
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		cluster, clock := redistest.NewClockedCluster(t, modelStart.Add(-time.Hour))
		cfg := cfg
		cfg.URL, cfg.Cluster = cluster.URL(), true
		checkModel(t, cfg, clock)
	})
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		cfg := cfg
		cfg.Embedded = true
		var clock *redistest.Clock
		cfg.URL, clock = redistest.MiniClocked(t, modelStart)
		checkModel(t, cfg, clock)
	})
}

func init() {
	// This takes a few seconds. To run more, set -rapid.checks and -rapid.steps.
	for name, value := range map[string]string{"rapid.checks": "12", "rapid.steps": "60"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}

func checkModel(t *testing.T, cfg redisstore.Config, clock *redistest.Clock) {
	cfg.Prefix = "model:"
	stores, run, steps := [2]*env{newEnv(t, cfg), newEnv(t, cfg)}, 0, 0
	defer func() { t.Logf("%d runs, %d steps", run, steps) }()
	rapid.Check(t, func(r *rapid.T) {
		run++
		stores[0].shard.Index = run // a shard of its own for each run
		w := world{env: stores[0], other: stores[1], r: r, clock: clock, m: &model{
			now: modelStart.UnixMilli(), tombstone: modelTombstone.Milliseconds(), max: modelMax,
			parkedTTL: modelParkedTTL.Milliseconds(), maxParked: modelMaxParked,
			tasks: map[contract.TaskID]*modelTask{}, gone: map[contract.TaskID]int64{},
		}}
		if !cfg.Embedded {
			w.m.linger = 1
		}
		r.Repeat(map[string]func(*rapid.T){
			"add": w.addTask, "add again": w.addAgain, "lease": w.leaseSome, "add and lease": w.addAndLease, "mark": w.markSent, "settle": w.settleLease,
			"release": w.releaseLease, "spend": w.spendLease, "pass over": w.passOver, "park": w.parkSent, "renew": w.renewSome, "cancel": w.cancelTask,
			"abandon": w.abandon, "keep": w.keep, "dismiss": w.dismissTask, "retry": w.retryTask, "retry dead": w.retryAll, "pause": w.pauseShard, "reap": w.reapShard,
			"time passes": w.wait, "": w.check,
		})
		w.wantNothingLeft()
		steps += w.steps
	})
}

// world has what the test acts on, two stores on one Redis and the model, and what it did so far.
type world struct {
	*env
	m      *model
	other  *env
	r      *rapid.T
	clock  *redistest.Clock
	steps  int
	ids    []contract.TaskID
	leases []mom.Lease // also lost ones: their holders may act late
}

// step does the same to a store and to the model, and compares. Now and then it repeats that,
// like a caller who got no reply.
func (w *world) step(r *rapid.T, store func(*env) string, want func() string) {
	for range 1 + rapid.IntRange(0, 6).Draw(r, "again")/6 {
		w.steps++
		w.setTime(w.m.now + 1)
		e := w.env
		w.m.mom = 0
		if rapid.Bool().Draw(r, "other MOM") {
			w.m.mom = 1
			e = &env{Store: w.other.Store, t: w.t, ctx: w.ctx, shard: w.shard}
		}
		if got, want := store(e), want(); got != want {
			r.Fatalf("got  %s\nwant %s", got, want)
		}
	}
}

func (w *world) setTime(ms int64) {
	w.m.pass(ms)
	w.clock.Set(w.t, time.UnixMilli(ms))
}

// wait changes the time: by some duration, to just about when something is due, or back.
func (w *world) wait(r *rapid.T) {
	to := w.m.now + rapid.SampledFrom([]time.Duration{
		time.Millisecond, time.Second, 10 * time.Second, time.Minute, time.Hour,
	}).Draw(r, "by").Milliseconds()
	times := slices.Concat(w.m.times(), slices.Collect(maps.Values(w.m.gone)))
	for _, t := range w.m.tasks {
		if t.answer != nil {
			times = append(times, t.answerUntil)
		}
	}
	slices.Sort(times)
	if len(times) > 0 && rapid.Bool().Draw(r, "to what is due") {
		to = rapid.SampledFrom(times).Draw(r, "which") - rapid.Int64Range(0, 2).Draw(r, "before")
	}
	to = max(w.m.now, to)
	// miniredis stores how long a key has to live, and not until when.
	if !w.cfg.Embedded && rapid.IntRange(0, 9).Draw(r, "set back") == 0 {
		to = max(w.m.dropped, w.m.now-time.Minute.Milliseconds())
	}
	w.setTime(to)
}

func pick[T any](r *rapid.T, from []T) T {
	if len(from) == 0 {
		r.Skip("none yet")
	}
	return rapid.SampledFrom(from).Draw(r, "which")
}

// word is the result of a transition that returns only an error, as a text.
func word(err error) string {
	for _, known := range []error{mom.ErrFenced, mom.ErrNotFound, mom.ErrTaskState, mom.ErrCallDropped, mom.ErrKeyReused, mom.ErrQueueFull} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return fmt.Sprint(err)
}

func added(a mom.Added, err error) string {
	return fmt.Sprint(a.ID, a.Attached, a.ExpireTime.UnixMilli(), word(err))
}

func (w *world) addTask(r *rapid.T) { w.addBoth(r, w.newTask(r, 0)) }

// newTask is one that nobody has added, the nth of a step.
func (w *world) newTask(r *rapid.T, nth int) mom.NewTask {
	task := w.task()
	// The same draws give the same ID.
	task.ID.ULID = ulid.ULID{13: byte(nth), 14: byte(w.steps >> 8), 15: byte(w.steps)}
	_ = task.ID.ULID.SetTime(uint64(w.m.now)) // no error, the time is not too late for a ULID
	task.Repeatable = rapid.Bool().Draw(r, "repeatable")
	task.Kept = rapid.Bool().Draw(r, "kept")
	task.Offer = rapid.Int64Range(0, 1).Draw(r, "offer")
	task.TTL = rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(r, "ttl")
	task.AnswerTTL = rapid.SampledFrom([]time.Duration{time.Second, time.Minute}).Draw(r, "answer ttl")
	if key := rapid.IntRange(0, 5).Draw(r, "key"); key < 3 {
		task.KeyHash = fmt.Sprint("key", key)
		task.Fingerprint = rapid.SampledFrom([]string{"a", "b"}).Draw(r, "request")
	}
	w.ids = append(w.ids, task.ID)
	return task
}

func (w *world) addAgain(r *rapid.T) {
	t := w.m.tasks[pick(r, w.ids)]
	if t == nil || t.until > 0 && t.until < w.m.now+time.Second.Milliseconds() {
		r.Skip("nobody repeats a hand-off a day later")
	}
	task := w.task()
	task.ID, task.KeyHash, task.Fingerprint, task.Kept = t.id, t.key, t.print, rapid.Bool().Draw(r, "kept")
	task.Offer = t.offer + rapid.Int64Range(-1, 1).Draw(r, "offer")
	w.addBoth(r, task)
}

func (w *world) addBoth(r *rapid.T, task mom.NewTask) {
	w.step(r, func(e *env) string { return added(e.Add(e.ctx, task)) }, func() string { return added(w.m.add(task, 0)) })
}

func (w *world) leaseSome(r *rapid.T) {
	room, d := drawRoom(r)
	var leases []mom.Lease
	w.step(r, func(e *env) (got string) {
		var err error
		leases, _, err = e.Store.Lease(e.ctx, e.shard, room, d)
		return w.leased(leases) + word(err)
	}, func() string { return w.wantLeased(r, leases, room, d) + word(nil) })
}

// addAndLease adds tasks, and leases in the same turn.
func (w *world) addAndLease(r *rapid.T) {
	room, d := drawRoom(r)
	var tasks []mom.NewTask
	for n := range rapid.IntRange(1, 4).Draw(r, "new tasks") {
		tasks = append(tasks, w.newTask(r, n))
	}
	var leases []mom.Lease
	w.step(r, func(e *env) (got string) {
		all, refused, some, err := e.AddAndLease(e.ctx, e.shard, tasks, room, d)
		leases = some
		for i := range all {
			got += added(all[i], refused[i]) + "\n"
		}
		return got + w.leased(leases) + word(err)
	}, func() (want string) {
		for i, task := range tasks {
			want += added(w.m.add(task, int64(i))) + "\n"
		}
		return want + w.wantLeased(r, leases, room, d) + word(nil)
	})
}

func drawRoom(r *rapid.T) (room mom.Room, d time.Duration) {
	n := rapid.IntRange(1, 3).Draw(r, "n")
	room = mom.Room{Tasks: n, Again: rapid.IntRange(0, n).Draw(r, "again"), Once: rapid.IntRange(0, n).Draw(r, "once")}
	return room, rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Second, 2 * time.Hour}).Draw(r, "for")
}

// leased remembers leases, and tells what they are.
func (w *world) leased(leases []mom.Lease) string {
	w.leases = append(w.leases, leases...)
	var got strings.Builder
	for _, l := range leases {
		fmt.Fprintln(&got, l.ID, l.Attempts, l.Repeatable, l.Remaining, string(l.Call.GetMessage()))
	}
	return got.String()
}

// wantLeased leases from the model what these leases should be, and takes their epochs.
func (w *world) wantLeased(r *rapid.T, leases []mom.Lease, room mom.Room, d time.Duration) string {
	var want strings.Builder
	for i, t := range w.m.leaseTasks(room, d) {
		if i < len(leases) {
			if t.epoch == leases[i].Epoch {
				r.Fatalf("leased again under the epoch %d", t.epoch)
			}
			t.epoch = leases[i].Epoch
		}
		fmt.Fprintln(&want, t.id, t.attempts, t.repeatable,
			time.Duration(t.expires-w.m.now)*time.Millisecond, string(t.call.GetMessage()))
	}
	return want.String()
}

// fenced is a step that starts from a lease and returns only an error.
func (w *world) fenced(r *rapid.T, store func(*env, mom.Lease) error, want func(mom.Lease) error) {
	lease := pick(r, w.leases)
	w.step(r, func(e *env) string { return word(store(e, lease)) }, func() string { return word(want(lease)) })
}

func (w *world) markSent(r *rapid.T) {
	w.fenced(r, func(e *env, l mom.Lease) error { return e.MarkSent(e.ctx, l) }, w.m.mark)
}

func (w *world) releaseLease(r *rapid.T) {
	w.fenced(r, func(e *env, l mom.Lease) error { return e.Release(e.ctx, l) }, w.m.release)
}

func (w *world) parkSent(r *rapid.T) {
	w.fenced(r, func(e *env, l mom.Lease) error { return e.Park(e.ctx, l, "cut off") },
		func(l mom.Lease) error { return w.m.parkLease(l, "cut off") })
}

func (w *world) settleLease(r *rapid.T) {
	answer := rapid.SampledFrom([]func(string) *momv1.Answer{success, failure}).Draw(r, "answer")(fmt.Sprint(w.steps))
	w.fenced(r, func(e *env, l mom.Lease) error { return e.Settle(e.ctx, l, answer) },
		func(l mom.Lease) error { return w.m.settle(l, answer) })
}

func (w *world) renewSome(r *rapid.T) {
	leases := []mom.Lease{pick(r, w.leases), pick(r, w.leases)}
	if leases[0].ID == leases[1].ID {
		leases = leases[:1]
	}
	d := rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Second, 2 * time.Hour}).Draw(r, "for")
	w.step(r, func(e *env) string {
		lost, err := e.Renew(e.ctx, e.shard, leases, d)
		return fmt.Sprint(holders(lost), word(err))
	}, func() string {
		var lost []mom.Lease
		for _, l := range leases {
			if w.m.renew(l, d) != nil {
				lost = append(lost, l)
			}
		}
		return fmt.Sprint(holders(lost), word(nil))
	})
}

func holders(leases []mom.Lease) (list []string) {
	for _, l := range leases {
		list = append(list, fmt.Sprint(l.ID, l.Epoch))
	}
	return list
}

func (w *world) spendLease(r *rapid.T) {
	lease := pick(r, w.leases)
	backoff := rapid.SampledFrom([]time.Duration{0, 100 * time.Millisecond, 10 * time.Second}).Draw(r, "backoff")
	most := rapid.IntRange(1, 4).Draw(r, "max")
	w.step(r, func(e *env) string {
		state, err := e.Spend(e.ctx, lease, "reset", backoff, most)
		return fmt.Sprint(state, word(err))
	}, func() string {
		state, err := w.m.spend(lease, "reset", backoff, most)
		return fmt.Sprint(state, word(err))
	})
}

// steered is a step that a person asks for.
func (w *world) steered(r *rapid.T, store func(*env, contract.TaskID) error, want func(contract.TaskID) error) {
	id := pick(r, w.ids)
	w.step(r, func(e *env) string { return word(store(e, id)) }, func() string { return word(want(id)) })
}

func (w *world) cancelTask(r *rapid.T) {
	w.steered(r, func(e *env, id contract.TaskID) error { return e.Cancel(e.ctx, id) },
		w.m.cancel)
}

func (w *world) dismissTask(r *rapid.T) {
	w.steered(r, func(e *env, id contract.TaskID) error { return e.Dismiss(e.ctx, id) }, w.m.dismiss)
}

func (w *world) abandon(r *rapid.T) {
	left := mom.Departure{ID: pick(r, w.ids), Lost: rapid.Bool().Draw(r, "lost"), Offer: rapid.Int64Range(0, 2).Draw(r, "offer")}
	w.step(r, func(e *env) string { return word(e.Abandon(e.ctx, e.shard, []mom.Departure{left})) },
		func() string { w.m.abandon(left); return word(nil) })
}

func (w *world) keep(r *rapid.T) {
	id := pick(r, w.ids)
	w.step(r, func(e *env) string {
		missing, err := e.Keep(e.ctx, e.shard, []contract.TaskID{id})
		return fmt.Sprint(len(missing), word(err))
	}, func() string { return fmt.Sprint(w.m.keep(id), word(nil)) })
}

func (w *world) retryTask(r *rapid.T) {
	w.steered(r, func(e *env, id contract.TaskID) error { return e.Retry(e.ctx, id) }, w.m.retry)
}

func (w *world) retryAll(r *rapid.T) {
	too := rapid.Bool().Draw(r, "uncertain")
	w.step(r, func(e *env) string {
		n, err := e.RetryDead(e.ctx, e.shard, too)
		return fmt.Sprint(n, word(err))
	}, func() string { return fmt.Sprint(w.m.retryDead(too), word(nil)) })
}

func (w *world) pauseShard(r *rapid.T) {
	paused := rapid.IntRange(0, 3).Draw(r, "paused") == 0
	w.step(r, func(e *env) string { return word(e.Pause(e.ctx, e.shard, paused)) },
		func() string { w.m.pause(paused); return word(nil) })
}

func (w *world) reapShard(r *rapid.T) {
	w.step(r, func(e *env) string {
		reaped, err := e.Reap(e.ctx, e.shard)
		return fmt.Sprint(reaped, word(err))
	}, func() string { return fmt.Sprint(w.m.reap(), word(nil)) })
}
