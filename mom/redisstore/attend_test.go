package redisstore_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// neighbour is another process on the same store, which watches.
type neighbour struct {
	*env
	log *log
}

func (e *env) neighbour() neighbour {
	e.t.Helper()
	n := neighbour{env: newEnv(e.t, e.cfg)}
	n.shard = e.shard
	n.log = n.watch(n.shard, elsewhere)
	n.ok(<-n.rings(n.ctx)) // that of the new connection
	return n
}

// elsewhere is a shard whose transitions show that all that was published before was heard.
var elsewhere = mom.Shard{Service: "test.v1.Service", Index: 9}

// heard waits for all that was published so far, and returns what this was.
func (n neighbour) heard() []string {
	n.t.Helper()
	there := *n.env
	there.shard = elsewhere
	id := there.add()
	n.ok(n.Cancel(n.ctx, id))
	until(n.t, "an event", func() bool { got, _ := n.log.seen(); return slices.Contains(got, event(id, cancelled)) })
	n.log.Lock()
	defer n.log.Unlock()
	got := slices.DeleteFunc(n.log.events, func(e string) bool { return e == event(id, cancelled) || e == event(id, queued) })
	n.log.events = nil
	return got
}

// rung tells whether the bell has rung.
func (n neighbour) rung() bool {
	n.t.Helper()
	n.heard()
	ctx, cancel := context.WithCancel(n.ctx)
	cancel()
	for range 100 { // Await takes either, when both are there
		if n.waitBell(ctx, n.shard) == nil {
			return true
		}
	}
	return false
}

// room is enough for all tasks of a test.
var room = mom.Room{Tasks: 9, Again: 9, Once: 9}

// Others are called for new tasks when nobody attends to them here, and once until the queue is empty.
func TestAttend(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		other := e.neighbour()
		want := func(when string, want bool) {
			t.Helper()
			if got := other.rung(); got != want {
				t.Errorf("%s: others are called: %v, want %v", when, got, want)
			}
		}
		e.ok(e.do("SET", e.key("stir"), "").Error()) // else one transition a second is published
		e.Attend(e.shard, true, room)
		e.add()
		want("it is leased here", false)
		e.ok(<-e.rings(e.ctx))
		e.order()
		e.Attend(e.shard, false, mom.Room{})
		want("it was leased here", false)

		e.Attend(e.shard, true, mom.Room{})
		e.add()
		e.Attend(e.shard, false, mom.Room{})
		until(t, "others are called for what is left", other.rung)
		e.add()
		want("they know of the queue", false)
		e.order()
		e.add()
		want("the queue was empty", true)
		count := func() {
			_, err := e.Depth(e.ctx, e.shard)
			e.ok(err)
		}
		count()
		e.add()
		want("there is one before it", false)
		e.order()
		id := e.add()
		want("the queue was empty again", true)
		e.ok(e.Cancel(e.ctx, id))
		count()
		e.add()
		want("whoever counted was told that nothing is queued", true)
	})
}

// New tasks that may not run twice are leased as they come as far as there is room for such. The others are not held up.
func TestNewTasksThatMayRunOnce(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		var tasks []mom.NewTask
		for _, repeatable := range []bool{true, false, false, true} {
			task := e.task()
			task.Repeatable = repeatable
			tasks = append(tasks, task)
		}
		_, refused, leases, err := e.AddAndLease(e.ctx, e.shard, tasks, mom.Room{Tasks: 4, Once: 1}, time.Hour)
		if err := errors.Join(append(refused, err)...); err != nil || len(leases) != 3 {
			t.Fatalf("got %d leases, %v, want 3", len(leases), err)
		}
		for i, n := range []int{0, 1, 3} {
			if got, want := leases[i], tasks[n]; got.ID != want.ID || got.Repeatable != want.Repeatable || got.Call != want.Call {
				t.Errorf("lease %d: got %+v, want that of task %d", i, got, n)
			}
		}
		if got := e.order(); len(got) != 1 || got[0] != tasks[2].ID {
			t.Errorf("left: got %v, want %v", got, tasks[2].ID)
		}
	})
}

// New tasks are leased together with being stored, as far as there is room. Others are called for what is left.
func TestLeaseGoesAlong(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		other := e.neighbour()
		e.ok(e.do("SET", e.key("stir"), "").Error()) // else one transition a second is published
		for _, before := range []int{0, 1} {
			e.Attend(e.shard, true, mom.Room{Tasks: 1, Again: 1, Once: 1})
			for range before { // and nobody awaits it
				e.add()
				e.ok(<-e.rings(e.ctx))
			}
			type got struct {
				leases []mom.Lease
				more   bool
				err    error
			}
			awaited := make(chan got)
			go func() {
				leases, more, err := e.Await(e.ctx, e.shard, time.Hour)
				awaited <- got{leases, more, err}
			}()
			time.Sleep(50 * time.Millisecond) // until it awaits
			id := e.add()
			one := <-awaited
			if one.err != nil || len(one.leases) != 1 || one.more != (before > 0) || before == 0 && one.leases[0].ID != id {
				t.Errorf("%d before it: got %+v, want a lease, and whether there are more", before, one)
			}
			if got, want := one.leases[0], e.task().Call; !bytes.Equal(got.Call.GetMessage(), want.GetMessage()) || got.Size != proto.Size(want) {
				t.Errorf("%d before it: got a call of %d bytes, %v, want %v", before, got.Size, got.Call, want)
			}
			if got := other.rung(); got != (before > 0) {
				t.Errorf("%d before it: others are called: %v", before, got)
			}
		}
	})
}

// Whoever offers a task again may be the only one to know of it: the MOM that stored it may be dead.
func TestKnownTaskRings(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		other := e.neighbour()
		e.ok(e.do("SET", e.key("stir"), "").Error()) // else one transition a second is published
		e.Attend(e.shard, true, mom.Room{})
		task := e.task()
		for _, store := range []*env{e, other.env} {
			_, err := store.Add(e.ctx, task)
			e.ok(err)
		}
		e.ok(<-other.rings(e.ctx))
	})
}

// Of the transitions of a task those are published that somebody waits for at another MOM. Of all others one is in a while.
func TestWhatIsPublished(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		other := e.neighbour()
		e.Attend(e.shard, true, mom.Room{})
		for name, c := range map[string]struct {
			waits  bool
			before func(e *env, task mom.NewTask) // its lease
			told   bool
			want   []momv1.TaskState
		}{
			"nobody waits":               {},
			"its caller waits elsewhere": {waits: true, want: []momv1.TaskState{succeeded}},
			"its caller is told":         {waits: true, told: true},
			"somebody listens":           {before: func(e *env, task mom.NewTask) { e.ok(e.Listen(e.ctx, task.ID)) }, want: []momv1.TaskState{running, succeeded}},
			"it was offered again":       {waits: true, told: true, before: again(false), want: []momv1.TaskState{running, succeeded}},
			"another one has its key":    {waits: true, told: true, before: again(true), want: []momv1.TaskState{running, succeeded}},
			"another one does not wait":  {before: again(true)},
		} {
			e.ok(e.do("SET", e.key("stir"), "").Error())
			task := e.task()
			keyed(name, "print")(&task)
			task.Waits = c.waits
			_, err := e.Add(e.ctx, task)
			e.ok(err)
			if c.before != nil {
				c.before(e, task)
			}
			e.ok(e.Store.Settle(e.ctx, e.lease(), success("done"), c.told))
			var want []string
			for _, state := range c.want {
				want = append(want, event(task.ID, state))
			}
			if got := other.heard(); !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
			e.wantAnswer(task.ID, success("done"))
		}
		e.ok(e.do("DEL", e.key("stir")).Error())
		id := e.add()
		if got, want := other.heard(), []string{event(id, queued)}; !slices.Equal(got, want) {
			t.Errorf("after a while: got %v, want %v", got, want)
		}
	})
}

// again offers a task once more, or another one with its key.
func again(other bool) func(*env, mom.NewTask) {
	return func(e *env, task mom.NewTask) {
		if other {
			task.ID = e.id()
		}
		_, err := e.Add(e.ctx, task)
		e.ok(err)
	}
}

// The reply that tells of leases is lost: their tasks are queued again as soon as Redis answers, and nothing was sent.
func TestLostLeasesComeBack(t *testing.T) {
	t.Parallel()
	for name, along := range map[string]bool{"with new tasks": true, "alone": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.New(t)
			e := newEnv(t, redisstore.Config{URL: server.URL(), CommandTimeout: time.Second})
			e.add()
			held := e.lease() // now Redis has the scripts
			task := e.task()
			lose := func() error {
				_, err := e.Lease(e.ctx, e.shard, 9, time.Hour)
				return err
			}
			if along {
				e.Attend(e.shard, true, room)
				lost := make(chan error, 1)
				go func() {
					_, _, err := e.Await(e.ctx, e.shard, time.Hour)
					lost <- err
				}()
				time.Sleep(50 * time.Millisecond) // until it awaits
				lose = func() error {
					_, err := e.Add(e.ctx, task)
					return errors.Join(err, <-lost)
				}
			} else {
				_, err := e.Add(e.ctx, task)
				e.ok(err)
			}
			server.Freeze(t)
			err := lose()
			server.Thaw(t)
			if !errors.Is(err, mom.ErrUnavailable) || errors.Is(err, mom.ErrNotSent) {
				t.Fatalf("got %v, want that it may be leased", err)
			}
			until(t, "it comes back", func() bool {
				found, _, err := e.Get(e.ctx, task.ID)
				epoch, _ := e.do("HGET", e.key("t:"+task.ID.ULID.String()), "e").ToString()
				return err == nil && found.GetState() == queued && epoch != "" // it was leased
			})
			if lease := e.lease(); lease.ID != task.ID || lease.Attempts != 0 {
				t.Errorf("got %+v, want it without an attempt", lease)
			}
			e.wantState(held.ID, running)
		})
	}
}

// Whoever asks for leases leaves while Redis is busy. Redis leases the tasks all the same, for an hour, so they are handed over.
func TestLeasesAreHandedOver(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, redisstore.Config{URL: server.URL(), CommandTimeout: 10 * time.Second})
	e.add()
	e.lease() // now Redis has the scripts
	id := e.add()
	var leases []mom.Lease
	err := mom.ErrNotSent
	for pause := 50 * time.Millisecond; errors.Is(err, mom.ErrNotSent); pause *= 2 { // until it was on its way
		ctx, leave := context.WithCancel(e.ctx)
		asked := make(chan struct{})
		server.Freeze(t)
		go func() {
			defer close(asked)
			leases, err = e.Lease(ctx, e.shard, 1, time.Hour)
		}()
		time.Sleep(pause)
		leave()
		time.Sleep(pause) // until that is noticed
		server.Thaw(t)
		<-asked
	}
	if err != nil || len(leases) != 1 || leases[0].ID != id {
		t.Errorf("got %+v, %v, want %s", leases, err, id)
	}
}
