package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/client"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// cutOff is a ledger that breaks off each call after it has run.
func cutOff() *ledger {
	return &ledger{during: func(context.Context, int64) { panic(http.ErrAbortHandler) }}
}

// postAsync stores a Post whose message has about so many bytes, and returns its id.
func (h *house) postAsync(tb testing.TB, amount int64, bytes int, headers ...string) (string, error) {
	tb.Helper()
	req := amounts(tb, amount)
	req.Set(req.Descriptor().Fields().ByName("proof"), protoreflect.ValueOfBytes(make([]byte, bytes)))
	ctx, _ := withHeaders(tb.Context(), append(headers, "Prefer: respond-async")...)
	err := wire{http2: true}.client(tb, h.addr).CallUnary(ctx, ledgerSpec("Post"), req, dynamicpb.NewMessage(req.Descriptor()))
	return client.TaskFrom(err).GetId(), err
}

// ledgerQueue shows the ledger's queue as an operator sees it.
func (h *house) ledgerQueue(tb testing.TB) *momv1.Queue {
	tb.Helper()
	list, err := queueService(tb, h.momAddr[0]).ListQueues(tb.Context(), &momv1.ListQueuesRequest{})
	if err != nil {
		tb.Fatalf("ListQueues: %v", err)
	}
	return list.GetQueues()[0]
}

// Tasks that wait for a person leave the queue its room: calls are stored however
// many are uncertain.
func TestParkedLeaveRoom(t *testing.T) {
	t.Parallel()
	h := deployAs(t, layout{momFlags: []string{"--max-bytes", "1048576", "--max-parked-bytes", "2000000"}})
	run(t, cutOff().serve(t, h.ledger))
	const parked = 13
	for i := range int64(parked) {
		id, err := h.postAsync(t, i, 90<<10)
		if connect.CodeOf(err) != connect.CodeDeadlineExceeded {
			t.Fatalf("call %d: got %v, want a handle", i, err)
		}
		awaitState(t, h.addr, id, momv1.TaskState_TASK_STATE_UNCERTAIN)
	}
	q := h.ledgerQueue(t)
	if q.GetDead() != parked || q.GetUncertain() != parked || q.GetParkedBytes() < parked*90<<10 || q.GetParkedBytes() != q.GetBytes() || q.GetOldestParked() == nil {
		t.Errorf("queue = %v, want %d parked tasks with all of its bytes", q, parked)
	}
	series := scrape(t, h.metrics[0])
	for _, want := range []string{
		`holdline_queue_parked_bytes{service="ledger.v1.LedgerService"} 1.`, `holdline_queue_parked_share{service="ledger.v1.LedgerService"} 0.`,
		`holdline_queue_oldest_parked_seconds{service="ledger.v1.LedgerService"} `,
	} {
		if !strings.Contains(series, "\n"+want) {
			t.Errorf("no series %s", want)
		}
	}
}

// A task that nobody came for ends: whoever reads it, or sends its key again, goes
// on to hear that the outcome is unknown.
func TestParkedEnd(t *testing.T) {
	t.Parallel()
	h := deployAs(t, layout{momFlags: []string{"--parked-ttl", "1s"}})
	l := cutOff()
	run(t, l.serve(t, h.ledger))
	id, _ := h.postAsync(t, 7, 10, "Idempotency-Key: once")
	awaitState(t, h.addr, id, momv1.TaskState_TASK_STATE_UNCERTAIN)
	eventually(t, func() bool { q := h.ledgerQueue(t); return q.GetDead() == 0 && q.GetBytes() == 0 }, "the task is given up")
	if body := readAnswer(t, h.addr, id, http.StatusInternalServerError); reasonIn(t, body) != "OUTCOME_UNKNOWN" {
		t.Errorf("its reader gets %s, want OUTCOME_UNKNOWN", body)
	}
	if _, err := h.postAsync(t, 7, 10, "Idempotency-Key: once"); contract.ReasonOf(err) != momv1.Reason_REASON_OUTCOME_UNKNOWN {
		t.Errorf("its key: got %v, want OUTCOME_UNKNOWN", err)
	}
	_, err := taskService(t, h.addr).RetryTask(t.Context(), &momv1.RetryTaskRequest{Id: id})
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "no longer kept") {
		t.Errorf("RetryTask: got %v, want failed_precondition: its call is no longer kept", err)
	}
	if got := l.ran(7); got != 1 {
		t.Errorf("ran %d times, want once", got)
	}
	if want := `holdline_mom_given_up_tasks_total{service="ledger.v1.LedgerService"} 1`; !strings.Contains(scrape(t, h.metrics[0]), "\n"+want) {
		t.Errorf("no series %s", want)
	}
}

// Who dismisses an uncertain task, or cancels it, does not make it unexecuted: its
// reader and its key go on to hear that the outcome is unknown.
func TestDismissTask(t *testing.T) {
	t.Parallel()
	h := deploy(t, 1)
	l := cutOff()
	run(t, l.serve(t, h.ledger))
	tasks := taskService(t, h.addr)
	for key, dismiss := range map[string]func(id string) (*momv1.Task, error){
		"dismissed": func(id string) (*momv1.Task, error) {
			res, err := tasks.DismissTask(t.Context(), &momv1.DismissTaskRequest{Id: id})
			return res.GetTask(), err
		},
		"cancelled": func(id string) (*momv1.Task, error) {
			res, err := tasks.CancelTask(t.Context(), &momv1.CancelTaskRequest{Id: id})
			return res.GetTask(), err
		},
	} {
		id, _ := h.postAsync(t, 1, 10, "Idempotency-Key: "+key)
		awaitState(t, h.addr, id, uncertain)
		before := readAnswer(t, h.addr, id, http.StatusInternalServerError)
		for range 2 {
			task, err := dismiss(id)
			if err != nil || task.GetState() != uncertain || task.GetDismissTime() == nil {
				t.Fatalf("%s: got %v, %v, want it uncertain, with the time at which it was dismissed", key, task, err)
			}
		}
		if got := readAnswer(t, h.addr, id, http.StatusInternalServerError); got != before || reasonIn(t, got) != "OUTCOME_UNKNOWN" {
			t.Errorf("%s: its reader got %s, and then %s, want OUTCOME_UNKNOWN as before", key, before, got)
		}
		if _, err := h.postAsync(t, 1, 10, "Idempotency-Key: "+key); contract.ReasonOf(err) != momv1.Reason_REASON_OUTCOME_UNKNOWN {
			t.Errorf("%s: its key: got %v, want OUTCOME_UNKNOWN", key, err)
		}
		_, err := tasks.RetryTask(t.Context(), &momv1.RetryTaskRequest{Id: id})
		if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "dismissed") {
			t.Errorf("%s: RetryTask: got %v, want failed_precondition: it was dismissed", key, err)
		}
	}
	if q := h.ledgerQueue(t); q.GetDead() != 0 || q.GetBytes() != 0 {
		t.Errorf("queue = %v, want none that waits for a person", q)
	}
	if got := l.ran(1); got != 2 {
		t.Errorf("ran %d times, want once each", got)
	}
}

// A task that was retried, and cancelled before it was sent again, may have run the
// first time: nobody says that it was not executed.
func TestCancelAfterRetry(t *testing.T) {
	t.Parallel()
	h := deploy(t, 1)
	run(t, cutOff().serve(t, h.ledger))
	id, _ := h.postAsync(t, 1, 10)
	awaitState(t, h.addr, id, uncertain)
	queues := queueService(t, h.momAddr[0])
	if _, err := queues.PauseQueue(t.Context(), &momv1.PauseQueueRequest{Service: ledgerService}); err != nil {
		t.Fatal(err)
	}
	tasks := taskService(t, h.addr)
	if _, err := tasks.RetryTask(t.Context(), &momv1.RetryTaskRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	res, err := tasks.CancelTask(t.Context(), &momv1.CancelTaskRequest{Id: id})
	if err != nil || res.GetTask().GetState() != cancelledTask {
		t.Fatalf("CancelTask: got %v, %v, want it cancelled", res, err)
	}
	body := readAnswer(t, h.addr, id, 499)
	if !strings.Contains(body, "may have been executed in one attempt") {
		t.Errorf("its reader gets %s, want that it may have been executed", body)
	}
	other, _ := h.postAsync(t, 2, 10)
	if _, err := tasks.CancelTask(t.Context(), &momv1.CancelTaskRequest{Id: other}); err != nil {
		t.Fatal(err)
	}
	if body := readAnswer(t, h.addr, other, 499); !strings.Contains(body, "was not executed") {
		t.Errorf("the reader of one that was never sent gets %s, want that it was not executed", body)
	}
	if _, err := tasks.DismissTask(t.Context(), &momv1.DismissTaskRequest{Id: other}); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("DismissTask of a cancelled one: got %v, want failed_precondition", err)
	}
}
