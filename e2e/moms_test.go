package e2e

import (
	"context"
	"sync"
	"syscall"
	"testing"

	momv1 "holdline/gen/mom/v1"
)

// Two MOMs replay one queue: every task is answered, and those of an undeclared
// method run once.
func TestTwoMOMs(t *testing.T) {
	t.Parallel()
	h := deploy(t, 2)
	const tasks = 300
	reads, posts := h.async(t, "Read", tasks), h.async(t, "Post", tasks)
	var l ledger
	run(t, l.serve(t, h.ledger))
	h.checkAnswers(t, reads)
	h.checkAnswers(t, posts)
	for i := range int64(tasks) {
		// One run of Post, and one of Read unless its lease ended early.
		if got := l.ran(i); got < 2 {
			t.Errorf("amount %d ran %d times, want Read and Post", i, got)
		}
	}
	if got := l.posted(); got != tasks {
		t.Errorf("Post ran %d times, want %d", got, tasks)
	}
}

// A MOM that is told to end answers those that it holds with handles, and ends.
func TestMOMTerminated(t *testing.T) {
	t.Parallel()
	h := deploy(t, 1)
	held := h.hold(t)
	h.moms[0].signal(t, syscall.SIGTERM)
	handles := held()
	wait(t, h.moms[0].gone, "the MOM has ended")
	if t.Failed() {
		return
	}
	h.moms[0].restart(t)
	awaitReady(t, h.momAddr[0])
	run(t, (&ledger{}).serve(t, h.ledger))
	h.checkAnswers(t, handles)
}

// MOMs leave and come while a queue drains: all is answered, and what may run
// once runs once.
func TestMOMsComeAndGo(t *testing.T) {
	t.Parallel()
	h := deploy(t, 2)
	const tasks = 300
	reads, posts := h.async(t, "Read", tasks), h.async(t, "Post", tasks)
	type stop struct {
		after         int
		once          sync.Once
		reached, over chan struct{}
	}
	stops := []*stop{{after: 100}, {after: 300}}
	for _, s := range stops {
		s.reached, s.over = make(chan struct{}), make(chan struct{})
	}
	var l ledger
	l.during = func(ctx context.Context, _ int64) {
		for _, s := range stops {
			if l.total() < s.after {
				return
			}
			s.once.Do(func() { close(s.reached) })
			select { // under way when the MOM is told to end
			case <-s.over:
			case <-ctx.Done():
			}
		}
	}
	run(t, l.serve(t, h.ledger))
	for i, s := range stops {
		wait(t, s.reached, "the replay is under way")
		h.moms[i].signal(t, syscall.SIGTERM)
		close(s.over)
		wait(t, h.moms[i].gone, "the MOM has ended")
		if i == 0 {
			h.moms[i].restart(t)
		}
	}
	awaitReady(t, h.momAddr[0])
	awaitTasks(t, h.momAddr[0], 2*tasks, momv1.TaskState_TASK_STATE_SUCCEEDED)
	h.checkAnswers(t, reads)
	h.checkAnswers(t, posts)
	if got := l.posted(); got != tasks {
		t.Errorf("Post ran %d times, want %d", got, tasks)
	}
}
