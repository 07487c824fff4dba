package mom

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
)

// Watch tells of nothing. It ends with ctx, or as the test says.
func (s *fakeStore) Watch(ctx context.Context, shards []Shard, _ func(Shard, []Transition), resync func()) error {
	if err := s.note("watch ", len(shards)); err != nil {
		return err
	}
	resync()
	<-ctx.Done()
	return ctx.Err()
}

// What a MOM counts can be read: calls by what came of them, states that tasks came to, queues by their tasks.
func TestMetrics(t *testing.T) {
	t.Parallel()
	registry, store := prometheus.NewRegistry(), newFakeStore()
	m := newFake(t, store, func(cfg *Config) { cfg.Metrics, cfg.OnHold = registry, true })
	id := sumID()
	call(t.Context(), m, id, "Prefer: respond-async")
	store.end(m, id, momv1.TaskState_TASK_STATE_CANCELLED, nil)
	store.queue(Lease{}, Lease{})
	check := func(name string, want float64) {
		t.Helper()
		if got := sum(t, registry, name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	check("holdline_mom_calls_total", 1)
	check("holdline_queue_ended_tasks_total", 1)
	check("holdline_mom_held_calls", 0)
	check("holdline_mom_ready", 1)
	check("holdline_mom_on_hold", 1)
	check("holdline_queue_tasks", 2)
	check("holdline_queue_no_route", 0)
	m.ready.Store(false)
	check("holdline_mom_ready", 0)
	store.fail = func(method string) error {
		if method == "depth" {
			return ErrUnavailable
		}
		return nil
	}
	check("holdline_queue_tasks", 0) // a queue that cannot be counted is left out
}

// The store is listened to until the MOM ends: for all shards, those too that are found meanwhile. What it tells
// after a connect may be news to all.
func TestTransitionsAreHeard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		m := newFake(t, store, nil)
		waiter, id := m.waiters.add(true), sumID()
		defer waiter.leave()
		waiter.waitFor(id)
		stop := inBackground(t, m.watch)
		synctest.Wait()
		<-waiter.changed // what was missed before the connect
		store.numbers[arithmeticv1connect.SumServiceName] = Numbering{Shards: 3, Epoch: 1}
		if _, err := m.shards.read(t.Context(), arithmeticv1connect.SumServiceName); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, want := store.transitions(), []string{"watch 1", "watch 3"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		m.hear(id, momv1.TaskState_TASK_STATE_SUCCEEDED)
		<-waiter.changed
		if part := m.shards.part(ShardOf(id)); !part.demand.doubtful.Load() || time.Until(part.reaper.due) > heardPause {
			t.Error("a task has ended: nobody doubts that there are more, or looks what is due")
		}
		stop()
		broken := errors.New("broken")
		store.fail = func(string) error { return broken }
		if err := m.watch(t.Context()); !errors.Is(err, broken) {
			t.Errorf("a store that cannot be listened to: got %v, want %v", err, broken)
		}
	})
}
