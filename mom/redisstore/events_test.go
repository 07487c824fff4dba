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

func event(id contract.TaskID, state momv1.TaskState) string { return fmt.Sprint(id, " ", state) }

// watch watches until the test ends, and returns once it is subscribed.
func (e *env) watch(shards ...mom.Shard) *log {
	e.t.Helper()
	l := new(log)
	ctx, cancel := context.WithCancel(e.ctx)
	done := make(chan error, 1)
	go func() {
		done <- e.Watch(ctx, shards, func(id contract.TaskID, state momv1.TaskState) {
			l.Lock()
			defer l.Unlock()
			l.events = append(l.events, event(id, state))
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
		lease := e.lease()
		e.ok(e.MarkSent(e.ctx, lease))
		_, err := e.Retry(e.ctx, lease, "reset", 0, 9)
		e.ok(err)
		e.reapUntil("it is due", func() bool { return e.state(a) == queued })
		lease = e.lease()
		e.ok(e.Settle(e.ctx, lease, success("done")))
		b := e.add(undeclared)
		e.ok(e.Park(e.ctx, e.lease(), "cut off"))
		e.ok(e.Revive(e.ctx, b))
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

// A callback may use the store, and a slow one holds up nobody else.
func TestWatchCallbackUsesTheStore(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		ctx, cancel := context.WithCancel(e.ctx)
		defer cancel()
		states := make(chan momv1.TaskState, 100)
		synced, done := make(chan bool, 1), make(chan error, 1)
		go func() {
			done <- e.Watch(ctx, []mom.Shard{e.shard}, func(id contract.TaskID, _ momv1.TaskState) {
				task, _, err := e.Get(ctx, id)
				if err != nil {
					t.Error(err)
					return
				}
				states <- task.State
			}, func() { synced <- true })
		}()
		<-synced
		for range 100 {
			e.add()
		}
		for range 100 {
			if got := <-states; got != queued {
				t.Errorf("got %v, want QUEUED", got)
			}
		}
		cancel()
		<-done
	})
}

// After each connect there is a resync: what was said in between is lost.
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

// rings waits for the bell beside the test.
func (e *env) rings(ctx context.Context) chan error {
	done := make(chan error, 1)
	go func() { done <- e.WaitBell(ctx, e.shard) }()
	return done
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
			lease := e.lease() // the bell goes with the last task
			e.ok(e.Release(e.ctx, lease))
		},
		"task revived": func(e *env) {
			e.add()
			lease := e.lease()
			e.ok(e.Park(e.ctx, lease, "cut off"))
			e.ok(e.Revive(e.ctx, lease.ID))
		},
		"lease ended": func(e *env) {
			e.add()
			lease := e.leaseFor(time.Millisecond)
			e.reapUntil("it ends", func() bool { return e.state(lease.ID) == queued })
		},
		"bell lost": func(e *env) {
			e.add()
			e.ok(e.do("DEL", e.key("bell")).Error())
			_, err := e.Reap(e.ctx, e.shard)
			e.ok(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, e *env) {
				ring(e)
				e.ok(<-e.rings(e.ctx)) // one that rang before
				waiting := e.rings(e.ctx)
				e.ok(e.do("DEL", e.key("bell")).Error())
				ring(e)
				e.ok(<-waiting)
			})
		})
	}
}

// Who waits may do so at a server that nobody rings at any more: a watch that
// connects anew lets them look.
func TestBellAfterAReconnect(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	waiting := e.rings(e.ctx)
	until(t, "it waits", func() bool { return strings.Contains(server.Ask(t, "CLIENT", "LIST"), "cmd=blpop") })
	e.watch(e.shard)
	e.ok(<-waiting)
}

// An empty queue has no bell, so that nobody wakes for nothing; and however
// many tasks come, the bell stays short.
func TestBellStaysShort(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		for range 40 {
			e.add()
		}
		length := func() int64 {
			n, err := e.do("LLEN", e.key("bell")).AsInt64()
			e.ok(err)
			return n
		}
		if got := length(); got != 16 {
			t.Errorf("bell: got %d, want 16", got)
		}
		e.lease()
		if got := length(); got != 16 {
			t.Errorf("bell with tasks left: got %d, want 16", got)
		}
		e.order()
		if got := length(); got != 0 {
			t.Errorf("bell without tasks: got %d, want none", got)
		}
	})
}

func TestWaitBellEndsWithItsContext(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		ctx, cancel := context.WithCancel(e.ctx)
		waiting := e.rings(ctx)
		cancel()
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error", err)
		}
		ctx, cancel = context.WithTimeout(e.ctx, time.Millisecond)
		defer cancel()
		if err := e.WaitBell(ctx, e.shard); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
		// Whoever left may take a bell along; the next reap rings again.
		e.add()
		waiting = e.rings(e.ctx)
		e.reapUntil("the bell rings", func() bool {
			select {
			case err := <-waiting:
				e.ok(err)
				return true
			default:
				return false
			}
		})
	})
}
