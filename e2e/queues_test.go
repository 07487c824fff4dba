package e2e

import (
	"net/http"
	"testing"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/stack"
)

// A paused queue takes calls and replays none, until it is resumed.
func TestPause(t *testing.T) {
	t.Parallel()
	const service = "arithmetic.v1.SumService"
	s := up(t, stack.Config{})
	queues := momv1connect.NewQueueServiceClient(wire{http2: true}.client(t, s.Gateway))
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
	watch, err := queues.WatchQueues(t.Context(), &momv1.WatchQueuesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := watch.Receive(); err != nil || len(first.GetQueues()) != 3 {
		t.Errorf("WatchQueues = %v, %v; want three queues at once", first, err)
	}
	_ = watch.Close()
}
