package e2e

import (
	"strings"
	"testing"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/redistest"
	"holdline/internal/stack"
)

// An answer that the store refuses ends its task with words that say so: its call is
// not run again, and those behind it do not wait.
func TestAnswerThatCannotBeKept(t *testing.T) {
	t.Parallel()
	redis := redistest.New(t)
	addr := address(t)
	s := up(t, stack.Config{Redis: redis.URL(), RedisPrefix: "x:", Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	redis.Ask(t, "CONFIG", "SET", "proto-max-bulk-len", "1048576") // later than it is looked at
	l := &ledger{fail: func(info *connect.CallInfo, amount int64) error {
		if amount == 1 {
			return connect.NewError(connect.CodeFailedPrecondition, strings.Repeat("x", 2<<20))
		}
		return nil
	}}
	first := make(chan said, 2)
	for _, method := range []string{"Read", "Post"} {
		go func() {
			got, _ := wire{}.ask(t, s.Gateway, method, amounts(t, 1), "Prefer: wait=60")
			first <- got
		}()
	}
	awaitTasks(t, s.Gateway, 2, momv1.TaskState_TASK_STATE_QUEUED)
	run(t, l.serve(t, addr))
	if got, _ := (wire{}).ask(t, s.Gateway, "Post", amounts(t, 2), "Prefer: respond-async, wait=60"); got.code != 0 {
		t.Errorf("the call behind it: got %v, want its answer", got)
	}
	for range 2 {
		got := <-first
		if !strings.Contains(got.text, "answer is larger than the store takes") || got.code != connect.CodeResourceExhausted {
			t.Errorf("the call got %v, want ANSWER_TOO_LARGE", got)
		}
	}
	if got := l.ran(1); got != 2 {
		t.Errorf("the calls ran %d times, want each once", got)
	}
}
