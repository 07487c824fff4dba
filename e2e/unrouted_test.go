package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"holdline/client"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
)

// storeAt stores a call of Post at a MOM, and returns its task's id.
func storeAt(tb testing.TB, mom string, amount int64, headers ...string) string {
	tb.Helper()
	ctx, _ := withHeaders(tb.Context(), append(headers, "Prefer: respond-async")...)
	err := wire{http2: true}.client(tb, mom).CallUnary(ctx, ledgerSpec("Post"), amounts(tb, amount), amounts(tb, 0))
	id := client.TaskFrom(err).GetId()
	if id == "" {
		tb.Fatalf("call %d: got %v, want a handle", amount, err)
	}
	return id
}

// A queue whose route is removed is still there: its tasks expire in time, can be listed, waited
// for and cancelled, operators see it, and what is left is replayed once there is a route again.
func TestRouteRemoved(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	routed, old := s.mom(t, s.route(";shards=3"))
	var stays []string
	for amount := range int64(5) {
		stays = append(stays, storeAt(t, routed, amount))
	}
	expires, cancelled := storeAt(t, routed, 10, "Holdline-Ttl: 3s"), storeAt(t, routed, 11)
	old.kill(t)
	s.redis.Ask(t, "DEL", "hl:services") // as if that MOM was of the release before

	var log lines
	addr, metrics := freeport.Addr(t), freeport.Addr(t)
	p := &process{name: filepath.Join(s.bin, "holdline"), log: &log, args: slices.Concat([]string{
		"mom", "--metrics", metrics, "--redis", s.redis.URL(), "--schema", s.image, "--route", unused,
	}, withAdmin(t, addr))}
	p.begin(t)
	awaitReady(t, addr)
	tasks := taskService(t, addr)
	res, err := tasks.WaitTask(t.Context(), &momv1.WaitTaskRequest{Id: expires, Wait: durationpb.New(contract.MaxHold)})
	if err != nil || res.GetTask().GetState() != momv1.TaskState_TASK_STATE_EXPIRED {
		t.Errorf("a task past its TTL: got %v, %v, want it expired", res, err)
	}
	readAnswer(t, addr, expires, 410)
	readAnswer(t, addr, stays[0], 202)
	if _, err := tasks.CancelTask(t.Context(), &momv1.CancelTaskRequest{Id: cancelled}); err != nil {
		t.Errorf("CancelTask: %v", err)
	}
	list, err := everybodysTasks(t, addr).ListTasks(t.Context(), &momv1.ListTasksRequest{Service: ledgerService})
	if err != nil || len(list.GetTasks()) != len(stays)+2 {
		t.Errorf("ListTasks: got %v, %v, want all tasks", list, err)
	}
	if q := queueAt(t, addr); !q.GetNoRoute() || q.GetQueued() != int64(len(stays)) || q.GetShards() != 3 {
		t.Errorf("queue = %v, want it without a route, with its tasks and shards", q)
	}
	if out := s.command(t, addr, "queue", "list"); !strings.Contains(out, "no route") {
		t.Errorf("queue list printed %s", out)
	}
	series := scrape(t, metrics)
	for _, want := range []string{`holdline_queue_no_route{service="` + ledgerService + `"} 1`, `holdline_queue_tasks{service="` + ledgerService + `",state="queued"} 5`} {
		if !strings.Contains(series, "\n"+want) {
			t.Errorf("no series %s", want)
		}
	}
	if !strings.Contains(log.String(), "no route to their service") {
		t.Errorf("no warning in %s", log.String())
	}
	if _, err := everybodysTasks(t, addr).ListTasks(t.Context(), &momv1.ListTasksRequest{Service: "nobody.v1.Service"}); contract.ReasonOf(err) != momv1.Reason_REASON_NO_ROUTE {
		t.Errorf("a service that nobody knows: got %v, want NO_ROUTE", err)
	}

	back, _ := s.mom(t, s.route(""))
	var l ledger
	run(t, l.serve(t, s.ledger))
	for _, id := range stays {
		readWaited(t, back, id)
	}
	if l.posted() != len(stays) {
		t.Errorf("%d calls ran, want %d", l.posted(), len(stays))
	}
	if q := queueAt(t, addr); q != nil {
		t.Errorf("queue = %v, want none that is empty and has no route", q)
	}
}

// readWaited waits for a task that succeeds.
func readWaited(tb testing.TB, addr, id string) {
	tb.Helper()
	res, err := taskService(tb, addr).WaitTask(tb.Context(), &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(contract.MaxHold)})
	if err != nil || res.GetTask().GetState() != momv1.TaskState_TASK_STATE_SUCCEEDED {
		tb.Errorf("%s at %s: got %v, %v, want it succeeded", id, addr, res.GetTask(), err)
	}
}

// A MOM without a route, which was there first, hears of the tasks that another MOM has stored:
// whoever waits there for a task is woken, and operators see the queue.
func TestRouteAtOneMOM(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	without, _ := s.mom(t, unused)
	with, killed := s.mom(t, s.route(";shards=4"))
	var ids []string
	for amount := range int64(8) {
		ids = append(ids, storeAt(t, with, amount))
	}
	var waiting []func()
	for _, id := range ids {
		done := make(chan struct{})
		go func() {
			defer close(done)
			readWaited(t, without, id)
		}()
		waiting = append(waiting, func() { wait(t, done, "the waiter has heard of "+id) })
	}
	eventually(t, func() bool { return queueAt(t, without).GetQueued() == 8 }, "the queue is seen")
	watch, err := taskService(t, without).WatchTasks(t.Context(), &momv1.WatchTasksRequest{Ids: ids})
	if err != nil {
		t.Fatal(err)
	}
	var l ledger
	run(t, l.serve(t, s.ledger))
	for _, heard := range waiting {
		heard()
	}
	ended := map[string]bool{}
	for len(ended) < len(ids) {
		res, err := watch.Receive()
		if err != nil {
			t.Fatalf("WatchTasks: %v", err)
		}
		if res.GetTask().GetState() == momv1.TaskState_TASK_STATE_SUCCEEDED {
			ended[res.GetTask().GetId()] = true
		}
	}
	_ = watch.Close()

	// Nobody but the MOM without a route is there to end what the other has left behind.
	killed.kill(t)
	left := storeLeft(t, s)
	if got := awaitState(t, without, left, momv1.TaskState_TASK_STATE_EXPIRED); got.GetEndTime() == nil {
		t.Errorf("got %v, want it expired", got)
	}
}

// storeLeft stores a call at a MOM with a route, which then dies.
func storeLeft(tb testing.TB, s *site) string {
	tb.Helper()
	mom, p := s.mom(tb, ledgerService+"=http://127.0.0.1:1")
	id := storeAt(tb, mom, 100, "Holdline-Ttl: 1s")
	p.kill(tb)
	return id
}

// A queue without a route can be steered: its parked tasks are dismissed and retried.
func TestUnroutedQueueIsSteered(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	with, killed := s.mom(t, s.route(""))
	ledger := run(t, cutOff().serve(t, s.ledger))
	ids := []string{storeAt(t, with, 1), storeAt(t, with, 2), storeAt(t, with, 3)}
	for _, id := range ids {
		awaitState(t, with, id, momv1.TaskState_TASK_STATE_UNCERTAIN)
	}
	ledger()
	killed.kill(t)
	without, _ := s.mom(t, unused)
	tasks := taskService(t, without)
	if _, err := tasks.DismissTask(t.Context(), &momv1.DismissTaskRequest{Id: ids[0]}); err != nil {
		t.Errorf("DismissTask: %v", err)
	}
	if _, err := tasks.RetryTask(t.Context(), &momv1.RetryTaskRequest{Id: ids[1]}); err != nil {
		t.Errorf("RetryTask: %v", err)
	}
	queues := queueService(t, without)
	res, err := queues.RetryDead(t.Context(), &momv1.RetryDeadRequest{Service: ledgerService, Uncertain: true})
	if err != nil || res.GetRetried() != 1 {
		t.Errorf("RetryDead: got %v, %v, want one task", res, err)
	}
	if _, err := queues.PauseQueue(t.Context(), &momv1.PauseQueueRequest{Service: ledgerService}); err != nil {
		t.Errorf("PauseQueue: %v", err)
	}
	if q := queueAt(t, without); q.GetQueued() != 2 || q.GetDead() != 0 || !q.GetPaused() {
		t.Errorf("queue = %v, want two tasks queued and it paused", q)
	}
	if _, err := queues.PauseQueue(t.Context(), &momv1.PauseQueueRequest{Service: "nobody.v1.Service"}); connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Errorf("a service that nobody knows: got %v, want unimplemented", err)
	}
	if list, err := queues.ListQueues(t.Context(), &momv1.ListQueuesRequest{}); err != nil ||
		!slices.ContainsFunc(list.GetQueues(), func(q *momv1.Queue) bool { return q.GetService() == "other.v1.Service" }) {
		t.Errorf("ListQueues: got %v, %v, want the routed queue too", list, err)
	}
}
