package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// log is what a Watch was told.
type log struct {
	sync.Mutex
	events  []string
	resyncs int
}

func (l *log) seen() ([]string, int) {
	l.Lock()
	defer l.Unlock()
	return slices.Clone(l.events), l.resyncs
}

func idOf(shard mom.Shard, t mom.Transition) contract.TaskID {
	return contract.TaskID{Service: shard.Service, Shard: shard.Index, ULID: t.ULID}
}

func event(id contract.TaskID, state momv1.TaskState) string { return fmt.Sprint(id, " ", state) }

// watch watches until the test ends, and returns once it is subscribed.
func (e *env) watch(shards ...mom.Shard) *log {
	e.t.Helper()
	l := new(log)
	ctx, cancel := context.WithCancel(e.ctx)
	done := make(chan error, 1)
	go func() {
		done <- e.Watch(ctx, shards, func(shard mom.Shard, transitions []mom.Transition) {
			l.Lock()
			defer l.Unlock()
			for _, t := range transitions {
				l.events = append(l.events, event(idOf(shard, t), t.State))
			}
		}, func() {
			l.Lock()
			defer l.Unlock()
			l.resyncs++
		})
	}()
	e.t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			e.t.Errorf("watch ended with %v, want the context's error", err)
		}
	})
	until(e.t, "a resync", func() bool { _, n := l.seen(); return n == 1 })
	return l
}

func TestWatchHearsEachTransition(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		elsewhere := mom.Shard{Service: e.shard.Service, Index: 4}
		unwatched := mom.Shard{Service: e.shard.Service, Index: 5}
		l := e.watch(e.shard, elsewhere)

		a := e.add()
		e.ok(e.Listen(e.ctx, a))
		lease := e.lease()
		e.ok(e.MarkSent(e.ctx, lease))
		_, err := e.Spend(e.ctx, lease, "reset", 0, 9)
		e.ok(err)
		e.reapUntil("it is due", func() bool { return e.state(a) == queued })
		lease = e.lease()
		e.ok(e.Settle(e.ctx, lease, success("done")))
		b := e.add(undeclared)
		e.ok(e.Listen(e.ctx, b))
		e.ok(e.Park(e.ctx, e.lease(), "cut off"))
		e.ok(e.Retry(e.ctx, b))
		e.ok(e.Release(e.ctx, e.lease()))
		e.ok(e.Cancel(e.ctx, b))
		e.shard = unwatched
		e.add()
		e.shard = elsewhere
		c := e.add()

		want := []string{
			event(a, queued), event(a, running), event(a, retrying), event(a, queued), event(a, running), event(a, succeeded),
			event(b, queued), event(b, running), event(b, uncertain), event(b, queued), event(b, running), event(b, queued), event(b, cancelled),
			event(c, queued),
		}
		until(t, "all events", func() bool { got, _ := l.seen(); return len(got) >= len(want) })
		if got, resyncs := l.seen(); !slices.Equal(got, want) || resyncs != 1 {
			t.Errorf("got %d resyncs and\n%q, want 1 and\n%q", resyncs, got, want)
		}
	})
}

// A callback may use the store, and a slow callback delays nothing else.
func TestWatchCallbackUsesTheStore(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		ctx, cancel := context.WithCancel(e.ctx)
		defer cancel()
		states := make(chan momv1.TaskState, 100)
		synced, done := make(chan bool, 1), make(chan error, 1)
		go func() {
			done <- e.Watch(ctx, []mom.Shard{e.shard}, func(shard mom.Shard, transitions []mom.Transition) {
				for _, one := range transitions {
					task, _, err := e.Get(ctx, idOf(shard, one))
					if ctx.Err() != nil {
						return
					}
					e.ok(err)
					states <- task.State
				}
			}, func() { synced <- true })
		}()
		<-synced
		for range 100 {
			e.ok(e.Cancel(e.ctx, e.add()))
		}
		for n := 0; n < 100; {
			if got := <-states; got == cancelled { // the first one may be read before that
				n++
			}
		}
		cancel()
		<-done
	})
}

// After each connect there is a resync, since events in between are lost.
func TestWatchResyncsAfterReconnect(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	l := e.watch(e.shard)
	server.Kill(t)
	server.Restart(t)
	until(t, "a second resync", func() bool { _, n := l.seen(); return n == 2 })
	var id contract.TaskID
	until(t, "the store is back", func() bool {
		added, err := e.Add(e.ctx, e.task())
		id = added.ID
		return err == nil
	})
	until(t, "an event after it", func() bool {
		got, _ := l.seen()
		return slices.Contains(got, event(id, queued))
	})
}

// rings waits for the bell in a goroutine.
func (e *env) rings(ctx context.Context) chan error {
	done := make(chan error, 1)
	go func() { done <- e.waitBell(ctx, e.shard) }()
	return done
}

func (e *env) waitBell(ctx context.Context, shard mom.Shard) error {
	_, _, err := e.Await(ctx, shard, time.Minute)
	return err
}

func TestBellRings(t *testing.T) {
	for name, ring := range map[string]func(e *env){
		"task added": func(e *env) { e.add() },
		"queue resumed": func(e *env) {
			e.ok(e.Pause(e.ctx, e.shard, true))
			e.ok(e.Pause(e.ctx, e.shard, false))
		},
		"task released": func(e *env) {
			e.add()
			lease := e.lease() // with the last task the key bell is deleted
			e.ok(e.Release(e.ctx, lease))
		},
		"task retried": func(e *env) {
			e.add()
			lease := e.lease()
			e.ok(e.Park(e.ctx, lease, "cut off"))
			e.ok(e.Retry(e.ctx, lease.ID))
		},
		"lease ended": func(e *env) {
			e.add()
			lease := e.leaseFor(time.Millisecond)
			e.reapUntil("it ends", func() bool { return e.state(lease.ID) == queued })
		},
		"queue limited": func(e *env) { e.ok(e.Limit(e.ctx, e.shard, mom.Limits{Running: 100})) },
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, e *env) {
				l := e.watch(e.shard)
				e.ok(<-e.rings(e.ctx)) // the ring of the new connection
				ring(e)
				heard := e.add()
				e.ok(e.Cancel(e.ctx, heard)) // an event after it
				until(t, "its event", func() bool { got, _ := l.seen(); return slices.Contains(got, event(heard, cancelled)) })
				e.ok(<-e.rings(e.ctx)) // the ring from before the event
				for len(e.order()) > 0 {
				}
				waiting := e.rings(e.ctx)
				ring(e)
				e.ok(<-waiting)
			})
		})
	}
}

// While tasks wait, each Reap rings: a bell between the nodes of a cluster may be lost.
func TestReapRings(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		l := e.watch(e.shard)
		e.ok(<-e.rings(e.ctx)) // the ring of the new connection
		id := e.add()
		until(t, "its event", func() bool { got, _ := l.seen(); return slices.Contains(got, event(id, queued)) })
		e.ok(<-e.rings(e.ctx)) // the ring of the task
		waiting := e.rings(e.ctx)
		_, err := e.Reap(e.ctx, e.shard)
		e.ok(err)
		e.ok(<-waiting)
	})
}

// After a reconnect the bell rings, since a ring may have been lost in between.
func TestBellAfterAReconnect(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	e.watch(e.shard)
	e.ok(<-e.rings(e.ctx))
	waiting := e.rings(e.ctx)
	server.Kill(t)
	server.Restart(t)
	e.ok(<-waiting)
}

// All who wait for bells share one connection.
func TestBellsShareAConnection(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	shards := make([]mom.Shard, 300)
	for i := range shards {
		shards[i] = mom.Shard{Service: e.shard.Service, Index: i}
	}
	e.watch(shards...)
	rung := make(chan error)
	for _, shard := range shards {
		e.ok(e.waitBell(e.ctx, shard)) // the ring of the new connection
		go func() { rung <- e.waitBell(e.ctx, shard) }()
	}
	for _, shard := range shards {
		e.shard = shard
		e.add()
		e.ok(<-rung)
	}
	clients := strings.Count(server.Ask(t, "CLIENT", "LIST"), "id=")
	if clients > 5 { // one for commands, one to watch, the test's own, and this one
		t.Errorf("connections: got %d, want no more than 5", clients)
	}
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redisstore.Config{URL: redistest.Start(t)})
	ctx, cancel := context.WithCancel(e.ctx)
	waiting := e.rings(ctx)
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}
