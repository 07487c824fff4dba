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
	"holdline/gen/mom/v1/momv1connect"
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
	list, err := momv1connect.NewQueueServiceClient(wire{}.client(tb, h.momAddr[0])).ListQueues(tb.Context(), &momv1.ListQueuesRequest{})
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
	if q.GetDead() != parked || q.GetParkedBytes() < parked*90<<10 || q.GetParkedBytes() != q.GetBytes() || q.GetOldestParked() == nil {
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
