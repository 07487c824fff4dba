package e2e

import (
	"strings"
	"testing"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/freeport"
	"holdline/internal/redistest"
	"holdline/internal/stack"
)

// An answer that the store refuses ends its task with words that say so: its call is
// not run again, and those behind it do not wait.
func TestAnswerThatCannotBeKept(t *testing.T) {
	t.Parallel()
	redis := redistest.New(t)
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Redis: redis.URL(), RedisPrefix: "x:", Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	l := &ledger{fail: func(info *connect.CallInfo, amount int64) error {
		if amount == 1 {
			return connect.NewError(connect.CodeFailedPrecondition, strings.Repeat("x", 2<<20))
		}
		return nil
	}}
	call := func(method string, amount int64) <-chan said {
		answer := make(chan said, 1)
		go func() {
			got, _ := wire{}.ask(t, s.Gateway, method, amounts(t, amount), "Prefer: wait=60")
			answer <- got
		}()
		return answer
	}
	large := []<-chan said{call("Read", 1), call("Post", 1)}
	awaitTasks(t, s.Gateway, 2, momv1.TaskState_TASK_STATE_QUEUED)
	behind := call("Post", 2)
	awaitTasks(t, s.Gateway, 3, momv1.TaskState_TASK_STATE_QUEUED)
	redis.Ask(t, "CONFIG", "SET", "proto-max-bulk-len", "1048576") // a MOM that sees it takes nothing more
	run(t, l.serve(t, addr))
	if got := <-behind; got.code != 0 {
		t.Errorf("the call behind them: got %v, want its answer", got)
	}
	for _, answer := range large {
		got := <-answer
		if !strings.Contains(got.text, "answer is larger than the store takes") || got.code != connect.CodeResourceExhausted {
			t.Errorf("the call got %v, want ANSWER_TOO_LARGE", got)
		}
	}
	if got := l.ran(1); got != 2 {
		t.Errorf("the calls ran %d times, want each once", got)
	}
}
