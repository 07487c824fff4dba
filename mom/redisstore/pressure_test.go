package redisstore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// pauses are ways to make a Redis silent for a while.
var pauses = map[string]func(t *testing.T, server *redistest.Server) (end func()){
	"paused": func(t *testing.T, server *redistest.Server) func() {
		server.Ask(t, "CLIENT", "PAUSE", "900", "ALL")
		return func() { server.Ask(t, "PING") } // answered after it
	},
	"frozen": func(t *testing.T, server *redistest.Server) func() {
		server.Freeze(t)
		return func() { server.Thaw(t) }
	},
	"busy": func(t *testing.T, server *redistest.Server) func() {
		var asleep sync.WaitGroup
		asleep.Go(func() { server.Ask(t, "DEBUG", "SLEEP", "0.9") })
		return asleep.Wait
	},
}

// When a silent Redis is back, it takes tasks at once, however many calls were given up
// meanwhile. Of these calls, only the few that were under way may be stored.
func TestSilenceEndsWithThePause(t *testing.T) {
	t.Parallel()
	for name, pause := range pauses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.New(t, "--enable-debug-command", "yes")
			e := newEnv(t, redisstore.Config{URL: server.URL(), CommandTimeout: time.Second})
			until(t, "a first task", func() bool { _, err := e.Add(e.ctx, e.task()); return err == nil })
			end := pause(t, server)
			var unsure atomic.Int64
			var calls sync.WaitGroup
			for range 1000 {
				calls.Go(func() {
					ctx, cancel := context.WithTimeout(e.ctx, 300*time.Millisecond)
					defer cancel()
					if _, err := e.Add(ctx, e.task()); err != nil && !errors.Is(err, mom.ErrNotSent) {
						unsure.Add(1)
					}
				})
			}
			calls.Wait()
			// As many as there are places, and as many again when the connection is given up meanwhile.
			if got := unsure.Load(); got > 400 {
				t.Errorf("may be stored or not: got %d of 1000, want no more than 400", got)
			}
			end()
			e.shard.Service = "another.v1.Service"
			back := time.Now()
			until(t, "a task is taken", func() bool { _, err := e.Add(e.ctx, e.task()); return err == nil })
			// It was seven seconds. Two are for a connection that was given up, and a slow machine.
			if took := time.Since(back); took > 3*time.Second {
				t.Errorf("the next task was taken after %v", took)
			}
		})
	}
}

// Calls that can wait for the end of a pause are not refused.
func TestWhoCanWaitIsServed(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	until(t, "a first task", func() bool { _, err := e.Add(e.ctx, e.task()); return err == nil })
	server.Freeze(t)
	var calls sync.WaitGroup
	for range 2000 {
		calls.Go(func() {
			if _, err := e.Add(e.ctx, e.task()); err != nil {
				t.Errorf("got %v, want it stored", err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(e.ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := e.Add(ctx, e.task()); !errors.Is(err, mom.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	server.Thaw(t)
	calls.Wait()
}

// A caller who leaves need not wait until Redis is back. To clean up after callers does not keep
// others from storing.
func TestLeavingInBulk(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	until(t, "a first task", func() bool { _, err := e.Add(e.ctx, e.task()); return err == nil })
	server.Freeze(t)
	leaving, leave := context.WithCancel(e.ctx)
	var callers, cleaners sync.WaitGroup
	for range 1000 {
		callers.Go(func() {
			if _, err := e.Add(leaving, e.task()); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the context's error", err)
			}
		})
	}
	leave()
	callers.Wait() // while Redis is frozen
	for range 1000 {
		cleaners.Go(func() {
			if err := e.Abandon(e.ctx, e.shard, []mom.Departure{{ID: e.id()}}); err != nil {
				t.Errorf("abandon: %v", err)
			}
		})
	}
	server.Thaw(t)
	_ = e.add()
	cleaners.Wait()
}

// A silent connection is given up and replaced long before a ping would notice.
func TestSilentConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, redisstore.Config{URL: server.URL(), CommandTimeout: time.Second})
	until(t, "a first task", func() bool { _, err := e.Add(e.ctx, e.task()); return err == nil })
	first := ids(server.Ask(t, "CLIENT", "LIST"))
	server.Freeze(t)
	_, err := e.Add(e.ctx, e.task())
	if !errors.Is(err, mom.ErrUnavailable) || errors.Is(err, mom.ErrNotSent) {
		t.Errorf("got %v, want ErrUnavailable, which it may have been sent", err)
	}
	until(t, "a connection that cannot greet", func() bool {
		_, err := e.Add(e.ctx, e.task())
		return errors.Is(err, mom.ErrNotSent)
	})
	server.Thaw(t)
	until(t, "a task is taken", func() bool { _, err := e.Add(e.ctx, e.task()); return err == nil })
	if now := ids(server.Ask(t, "CLIENT", "LIST")); now == first {
		t.Errorf("the connections are the same: %s", now)
	}
}

// ids lists the ids of the connections in a CLIENT LIST, without the one that asks.
func ids(list string) (ids string) {
	for line := range strings.Lines(list) {
		if !strings.Contains(line, "cmd=client") {
			id, _, _ := strings.Cut(line, " ")
			ids += id + " "
		}
	}
	return ids
}
