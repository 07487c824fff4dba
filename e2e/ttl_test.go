package e2e

import (
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// The TTL of a call bounds its wait for the service. An attempt that has begun before may finish:
// its answer counts, and its failure is told as what it is.
func TestRunningAtTheEndOfItsLife(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, method string
		breaks       bool // the connection, after the TTL
		state        momv1.TaskState
		code         connect.Code
		says         string
	}{
		{"undeclared, answered", "Post", false, momv1.TaskState_TASK_STATE_SUCCEEDED, 0, ""},
		{"repeatable, answered", "Read", false, momv1.TaskState_TASK_STATE_SUCCEEDED, 0, ""},
		{"undeclared, broken", "Post", true, momv1.TaskState_TASK_STATE_UNCERTAIN, connect.CodeUnknown, "may have been executed in one attempt"},
		{"repeatable, broken", "Read", true, momv1.TaskState_TASK_STATE_EXPIRED, connect.CodeDeadlineExceeded, "may have been executed in one attempt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr := freeport.Addr(t)
			s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
			l := &ledger{}
			entered, release := make(chan struct{}, 1), make(chan struct{})
			brittle(t, addr, l, func(int64) bool {
				entered <- struct{}{}
				<-release
				return c.breaks
			})
			const key, ttl = "Idempotency-Key: k", "Holdline-Ttl: 8s"
			_, info := wire{}.ask(t, s.Gateway, c.method, amounts(t, 1), key, ttl, "Prefer: respond-async")
			id := info.ResponseHeader().Get(contract.HeaderTask)
			wait(t, entered, "the call is under way")
			heard := make(chan said, 1)
			go func() {
				held, _ := wire{}.ask(t, s.Gateway, c.method, amounts(t, 1), key, ttl, "Prefer: wait=60")
				heard <- held
			}()
			client := taskService(t, s.Gateway)
			eventually(t, func() bool {
				res, err := client.GetTask(t.Context(), &momv1.GetTaskRequest{Id: id})
				return err == nil && time.Now().After(res.GetTask().GetExpireTime().AsTime())
			}, "its TTL is over")
			if task := awaitState(t, s.Gateway, id, momv1.TaskState_TASK_STATE_RUNNING); task.GetAttempts() != 0 {
				t.Errorf("when its TTL was over: %v, want it to run on", task)
			}
			close(release)
			held := <-heard
			if held.code != c.code || !strings.Contains(held.text, c.says) {
				t.Errorf("the held caller got %v, want %v %q", held, c.code, c.says)
			}
			task := awaitState(t, s.Gateway, id, c.state)
			if ran := l.ran(1); ran != 1 || task.GetAttempts() != 1 {
				t.Errorf("it ran %d times, and has %d attempts, want one", ran, task.GetAttempts())
			}
		})
	}
}
