package e2e

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/freeport"
	"holdline/internal/redistest"
	"holdline/internal/stack"
)

// A paused queue takes calls and replays none, until it is resumed.
func TestPause(t *testing.T) {
	t.Parallel()
	const service = "arithmetic.v1.SumService"
	s := up(t, stack.Config{})
	queues := queueService(t, s.Gateway)
	paused, err := queues.PauseQueue(t.Context(), &momv1.PauseQueueRequest{Service: service})
	if err != nil || !paused.GetQueue().GetPaused() {
		t.Fatalf("PauseQueue = %v, %v; want a paused queue", paused, err)
	}
	if res, body := post(t, sumURL(s), `{"a": 1, "b": 2}`, "Prefer: respond-async"); res.StatusCode != http.StatusAccepted {
		t.Fatalf("got %d %s, want 202", res.StatusCode, body)
	}
	list, err := queues.ListQueues(t.Context(), &momv1.ListQueuesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range list.GetQueues() {
		if want := q.GetService() == service; (q.GetQueued() == 1) != want || q.GetPaused() != want {
			t.Errorf("queue = %v, want %s alone with a task, and paused", q, service)
		}
	}
	if _, err := queues.ResumeQueue(t.Context(), &momv1.ResumeQueueRequest{Service: service}); err != nil {
		t.Fatal(err)
	}
	awaitTasks(t, s.Gateway, 1, momv1.TaskState_TASK_STATE_SUCCEEDED)

	if _, err := queues.PauseQueue(t.Context(), &momv1.PauseQueueRequest{Service: "no.Such"}); connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Errorf("a service without a route: got %v, want unimplemented", err)
	}
	for _, bad := range []*momv1.LimitQueueRequest{
		{Service: service, MaxRunning: -1}, {Service: service, MaxPerSecond: -1}, {Service: service, MaxPerSecond: math.NaN()}, {Service: service, MaxPerSecond: 0.01},
	} {
		if _, err := queues.LimitQueue(t.Context(), bad); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: got %v, want invalid_argument", bad, err)
		}
	}
	watch, err := queues.WatchQueues(t.Context(), &momv1.WatchQueuesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := watch.Receive(); err != nil || len(first.GetQueues()) != 3 {
		t.Errorf("WatchQueues = %v, %v; want three queues at once", first, err)
	}
	_ = watch.Close()
}

// However many watch the queues, the store is asked as if it were one.
func TestManyWatchQueues(t *testing.T) {
	t.Parallel()
	const watchers, messages = 50, 5
	redis := redistest.New(t)
	s := up(t, stack.Config{Redis: redis.URL()})
	queues := queueService(t, s.Gateway)
	asked := func() int {
		_, rest, _ := strings.Cut(redis.Ask(t, "INFO", "commandstats"), "cmdstat_evalsha:calls=")
		calls, _, _ := strings.Cut(rest, ",")
		n, _ := strconv.Atoi(calls) // none yet
		return n
	}
	before := asked()
	var watching errgroup.Group
	for range watchers {
		watching.Go(func() error {
			watch, err := queues.WatchQueues(t.Context(), &momv1.WatchQueuesRequest{Interval: durationpb.New(100 * time.Millisecond)})
			if err != nil {
				return err
			}
			defer func() { _ = watch.Close() }()
			for range messages {
				if res, err := watch.Receive(); err != nil || len(res.GetQueues()) != 3 {
					return fmt.Errorf("got %v, %w, want three queues", res, err)
				}
			}
			return nil
		})
	}
	if err := watching.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := asked() - before; n > 3*watchers*messages/4 {
		t.Errorf("%d messages took %d scripts, want far fewer than three each", watchers*messages, n)
	}
}

// Limits of a queue hold over its shards, until they are lifted.
func TestLimitQueue(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr + ";shards=2"}})
	var mu sync.Mutex
	most, now := 0, 0
	l := ledger{during: func(context.Context, int64) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		<-time.After(5 * time.Millisecond)
		mu.Lock()
		now--
		mu.Unlock()
	}}
	run(t, l.serve(t, addr))
	queues := queueService(t, s.Gateway)
	limited, err := queues.LimitQueue(t.Context(), &momv1.LimitQueueRequest{Service: ledgerService, MaxRunning: 2, MaxPerSecond: 1000})
	if q := limited.GetQueue(); err != nil || q.GetMaxRunning() != 2 || q.GetMaxPerSecond() != 1000 {
		t.Fatalf("LimitQueue = %v, %v; want these limits", limited, err)
	}
	h := house{addr: s.Gateway}
	ids := h.async(t, "Read", 100)
	h.checkAnswers(t, ids)
	if most > 2 {
		t.Errorf("%d tasks were under way at once, want 2 at most", most)
	}
	lifted, err := queues.LimitQueue(t.Context(), &momv1.LimitQueueRequest{Service: ledgerService})
	if q := lifted.GetQueue(); err != nil || q.GetMaxRunning() != 0 || q.GetMaxPerSecond() != 0 || q.GetBytes() != 0 {
		t.Errorf("LimitQueue = %v, %v; want no limits, and no bytes left", lifted, err)
	}
}
