package mom_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
	"holdline/mom"
)

func (w *told) queues() momv1connect.QueueServiceClient {
	return momv1connect.NewQueueServiceClient(w.rpc)
}

// queue shows the queue of the service.
func (w *told) queue() *momv1.Queue {
	w.t.Helper()
	res, err := again(w.t, func(ctx context.Context) (*momv1.ListQueuesResponse, error) {
		return w.queues().ListQueues(asOperator(ctx), &momv1.ListQueuesRequest{})
	})
	if err != nil || len(res.GetQueues()) != 1 {
		w.t.Fatalf("queues: %v, %v, want one", res, err)
	}
	return res.GetQueues()[0]
}

// A queue is shown as it is: what waits in it, for whom, since when and under which limits.
func TestQueuesAreListed(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	for range 4 {
		w.handOff()
	}
	w.park(dead)
	w.park(uncertain)
	time.Sleep(2 * time.Millisecond) // ages are whole milliseconds
	q := w.queue()
	if q.GetService() != sumService || q.GetQueued() != 2 || q.GetDead() != 2 || q.GetUncertain() != 1 || q.GetNoRoute() || q.GetPaused() || q.GetShards() != 1 {
		t.Errorf("got %v, want 2 queued, 2 dead of which 1 uncertain", q)
	}
	if q.GetBytes() == 0 || q.GetParkedBytes() == 0 || q.GetParkedBytes() >= q.GetBytes() || q.GetOldestWait().AsDuration() <= 0 || q.GetOldestParked().AsDuration() <= 0 {
		t.Errorf("got %v, want what the calls take, and how long the oldest ones have waited", q)
	}
	retried, err := w.queues().RetryDead(asOperator(t.Context()), &momv1.RetryDeadRequest{Service: sumService})
	if err != nil || retried.GetRetried() != 1 {
		t.Errorf("retry of the dead: got %v, %v, want the one that is not uncertain", retried, err)
	}
	retried, err = w.queues().RetryDead(asOperator(t.Context()), &momv1.RetryDeadRequest{Service: sumService, Uncertain: true})
	if err != nil || retried.GetRetried() != 1 || w.queue().GetQueued() != 4 {
		t.Errorf("retry of the uncertain, too: got %v, %v, and %v, want the other one", retried, err, w.queue())
	}
}

// A paused queue keeps its tasks, and gives them to the service once it is resumed.
func TestPausedQueueWaits(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	paused, err := w.queues().PauseQueue(asOperator(t.Context()), &momv1.PauseQueueRequest{Service: sumService})
	if err != nil || !paused.GetQueue().GetPaused() {
		t.Fatalf("got %v, %v, want it paused", paused, err)
	}
	w.begin()
	id := w.handOff()
	wait, err := w.tasks().WaitTask(t.Context(), &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(100 * time.Millisecond)})
	if err != nil || wait.GetTask().GetState() != queued {
		t.Errorf("while it is paused: got %v, %v, want it queued", wait, err)
	}
	resumed, err := w.queues().ResumeQueue(asOperator(t.Context()), &momv1.ResumeQueueRequest{Service: sumService})
	if err != nil || resumed.GetQueue().GetPaused() {
		t.Fatalf("got %v, %v, want it resumed", resumed, err)
	}
	wait, err = w.tasks().WaitTask(t.Context(), &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(time.Minute)})
	if err != nil || wait.GetTask().GetState() != succeeded {
		t.Errorf("once it is resumed: got %v, %v, want its answer", wait, err)
	}
}

// The number of shards may change while tasks wait. New ones go into the new shards, which have the limits and the
// pause of the old ones; those that are there stay, and all can be read.
func TestShardsAreChanged(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	if _, err := w.queues().PauseQueue(asOperator(t.Context()), &momv1.PauseQueueRequest{Service: sumService}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.queues().LimitQueue(asOperator(t.Context()), &momv1.LimitQueueRequest{Service: sumService, MaxRunning: 8, MaxPerSecond: 4}); err != nil {
		t.Fatal(err)
	}
	before := w.handOff()
	set, err := w.queues().SetShards(asOperator(t.Context()), &momv1.SetShardsRequest{Service: sumService, Shards: 4})
	if q := set.GetQueue(); err != nil || q.GetShards() != 4 || q.GetMaxRunning() != 8 || q.GetMaxPerSecond() != 4 {
		t.Fatalf("got %v, %v, want 4 shards, and the limits of before", set, err)
	}
	for i := range 4 {
		depth, err := w.store.Depth(t.Context(), mom.Shard{Service: sumService, Index: i})
		if err != nil || !depth.Paused || depth.Limits.Running != 2 || depth.Limits.PerSecond != 1 {
			t.Errorf("shard %d: got %+v, %v, want it paused, with its share of the limits", i, depth, err)
		}
	}
	// A gateway that has not heard of it is told the number, and stores nothing.
	id := newID()
	for id.Placed(4, contract.Anonymous, "", "").Shard == 0 {
		id = newID()
	}
	if task := w.handOff("Holdline-Task: " + id.String()); task != "" {
		t.Errorf("an id of the old number: got %q, want it refused", task)
	}
	after := w.handOff("Holdline-Task: " + id.Placed(4, contract.Anonymous, "", "").String())
	for _, id := range []string{before, after} {
		if res, err := w.tasks().GetTask(t.Context(), &momv1.GetTaskRequest{Id: id}); err != nil || res.GetTask().GetState() != queued {
			t.Errorf("%s: got %v, %v, want it queued", id, res, err)
		}
	}
	if q := w.queue(); q.GetQueued() != 2 {
		t.Errorf("got %v, want 2 queued", q)
	}
	set, err = w.queues().SetShards(asOperator(t.Context()), &momv1.SetShardsRequest{Service: sumService, Shards: 1})
	if q := set.GetQueue(); err != nil || q.GetShards() != 1 || q.GetOldShards() != 1 {
		t.Errorf("got %v, %v, want one shard, and an old one that still has a task", set, err)
	}
	w.begin()
	if _, err := w.queues().ResumeQueue(asOperator(t.Context()), &momv1.ResumeQueueRequest{Service: sumService}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{before, after} {
		if res, err := w.tasks().WaitTask(t.Context(), &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(time.Minute)}); err != nil || res.GetTask().GetState() != succeeded {
			t.Errorf("%s: got %v, %v, want its answer", id, res, err)
		}
	}
}

// What makes no sense is refused, and so is what is asked of a queue that there is not.
func TestQueuesRefuse(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	ctx, q := asOperator(t.Context()), w.queues()
	const nobody = "nobody.v1.Service"
	for name, c := range map[string]struct {
		ask  func() error
		code connect.Code
	}{
		"pause of nothing":  {func() error { _, err := q.PauseQueue(ctx, &momv1.PauseQueueRequest{Service: nobody}); return err }, connect.CodeUnimplemented},
		"resume of nothing": {func() error { _, err := q.ResumeQueue(ctx, &momv1.ResumeQueueRequest{Service: nobody}); return err }, connect.CodeUnimplemented},
		"limit of nothing":  {func() error { _, err := q.LimitQueue(ctx, &momv1.LimitQueueRequest{Service: nobody}); return err }, connect.CodeUnimplemented},
		"shards of nothing": {func() error {
			_, err := q.SetShards(ctx, &momv1.SetShardsRequest{Service: nobody, Shards: 2})
			return err
		}, connect.CodeUnimplemented},
		"retry of nothing":        {func() error { _, err := q.RetryDead(ctx, &momv1.RetryDeadRequest{Service: nobody}); return err }, connect.CodeUnimplemented},
		"restore of nothing":      {func() error { _, err := q.RestoreQueue(ctx, &momv1.RestoreQueueRequest{Service: nobody}); return err }, connect.CodeUnimplemented},
		"restore while replaying": {func() error { _, err := q.RestoreQueue(ctx, &momv1.RestoreQueueRequest{}); return err }, connect.CodeFailedPrecondition},
		"no shards":               {func() error { _, err := q.SetShards(ctx, &momv1.SetShardsRequest{Service: sumService}); return err }, connect.CodeInvalidArgument},
		"too many shards": {func() error {
			_, err := q.SetShards(ctx, &momv1.SetShardsRequest{Service: sumService, Shards: 65})
			return err
		}, connect.CodeInvalidArgument},
		"fewer than none run": {func() error {
			_, err := q.LimitQueue(ctx, &momv1.LimitQueueRequest{Service: sumService, MaxRunning: -1})
			return err
		}, connect.CodeInvalidArgument},
		"too slow a rate": {func() error {
			_, err := q.LimitQueue(ctx, &momv1.LimitQueueRequest{Service: sumService, MaxPerSecond: 0.01})
			return err
		}, connect.CodeInvalidArgument},
	} {
		if err := c.ask(); connect.CodeOf(err) != c.code {
			t.Errorf("%s: got %v, want %v", name, err, c.code)
		}
	}
}

// Who watches the queues sees them at once, and again as they are then.
func TestQueuesAreWatched(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	stream, err := w.queues().WatchQueues(asOperator(t.Context()), &momv1.WatchQueuesRequest{Interval: durationpb.New(time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	see := func(what string, want int64) {
		t.Helper()
		for range 100 { // a quarter of a second each
			res, err := stream.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if len(res.GetQueues()) == 1 && res.GetQueues()[0].GetQueued() == want && !res.GetQueues()[0].GetUnreadable() {
				return
			}
		}
		t.Errorf("%s: it is never seen", what)
	}
	see("an empty queue", 0)
	w.handOff()
	see("a task", 1)
	w.mom.Drain()
	for err == nil {
		_, err = stream.Receive()
	}
	if connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("of a MOM that goes away: got %v, want unavailable", err)
	}
}

// Gateways keep tasks whose handles they have given out, abandon those of callers who have left, and are told the
// MOM's routes.
func TestHoldsOfGateways(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	holds := momv1connect.NewHoldServiceClient(w.rpc)
	none := newID().String()
	add := func() string {
		t.Helper()
		id := newID()
		call := &momv1.Call{RecordVersion: 1, Procedure: "/" + sumService + "/Sum", Caller: contract.Anonymous, Protocol: "connect", HttpMajor: 1}
		if _, err := w.store.Add(t.Context(), mom.NewTask{ID: id, Call: call, TTL: time.Hour, AnswerTTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
		return id.String()
	}
	kept, left := add(), add()
	keep, err := again(t, func(ctx context.Context) (*momv1.KeepTasksResponse, error) {
		return holds.KeepTasks(ctx, &momv1.KeepTasksRequest{Ids: []string{kept, none}})
	})
	if err != nil || len(keep.GetMissing()) != 1 || keep.GetMissing()[0] != none {
		t.Errorf("keep: got %v, %v, want %s missing", keep, err, none)
	}
	if _, err := again(t, func(ctx context.Context) (*momv1.AbandonTasksResponse, error) {
		return holds.AbandonTasks(ctx, &momv1.AbandonTasksRequest{Ids: []string{kept, left, none}})
	}); err != nil {
		t.Errorf("abandon: %v", err)
	}
	for id, want := range map[string]momv1.TaskState{kept: queued, left: cancelled} {
		if task, _, err := w.store.Get(t.Context(), w.id(id)); err != nil || task.GetState() != want {
			t.Errorf("got %v, %v, want it %v", task, err, want)
		}
	}
	many := make([]string, 1001)
	for i := range many {
		many[i] = none
	}
	for name, ids := range map[string][]string{"no id": {"17"}, "too many": many} {
		if _, err := holds.KeepTasks(t.Context(), &momv1.KeepTasksRequest{Ids: ids}); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("keep of %s: got %v, want invalid_argument", name, err)
		}
		if _, err := holds.AbandonTasks(t.Context(), &momv1.AbandonTasksRequest{Ids: ids}); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("abandon of %s: got %v, want invalid_argument", name, err)
		}
	}
	routes, err := holds.ListRoutes(t.Context(), &momv1.ListRoutesRequest{})
	if list := routes.GetRoutes(); err != nil || len(list) != 1 || list[0].GetService() != sumService || list[0].GetShards() != 1 || list[0].GetSchema() == "" {
		t.Errorf("routes: got %v, %v, want one", routes, err)
	}
}

// A MOM on hold takes calls and tells of them, and nothing moves until somebody has looked at a restored queue.
func TestOnHold(t *testing.T) {
	t.Parallel()
	w := newToldWith(t, "", func(cfg *mom.Config) { cfg.OnHold = true })
	w.begin()
	id := w.handOff()
	wait, err := w.tasks().WaitTask(t.Context(), &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(200 * time.Millisecond)})
	if err != nil || wait.GetTask().GetState() != queued {
		t.Errorf("got %v, %v, want it queued", wait, err)
	}
	if q := w.queue(); !q.GetOnHold() {
		t.Errorf("got %v, want it on hold", q)
	}
	res, err := w.queues().RestoreQueue(asOperator(t.Context()), &momv1.RestoreQueueRequest{})
	if err != nil {
		t.Errorf("restore: got %v, %v", res, err)
	}
	w.once("queue restored", "service="+sumService, fmt.Sprintf("uncertain=%d", res.GetUncertain()))
}
