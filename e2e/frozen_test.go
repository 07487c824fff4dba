package e2e

import (
	"sync"
	"syscall"
	"testing"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/stack"
)

// A service that is frozen is as good as one that is down: calls that wait for it,
// and may run twice, are stored, and answered when it goes on.
func TestFrozenService(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Without: []string{"sum"}})
	service := start(t, build(t), "service", "sum", "--listen", s.Service["sum"])
	for i, w := range wires() { // each has a connection to it
		eventually(t, func() bool {
			ctx, _ := withHeaders(t.Context(), "Holdline-Mode: direct")
			res, err := w.sum(ctx, t, s, float64(i), 0.25)
			return err == nil && res.GetResult() == float64(i)+0.25
		}, "%s: the service answers", w.name)
	}
	service.freeze(t)
	var callers sync.WaitGroup
	defer callers.Wait()
	for i, w := range wires() {
		callers.Go(func() {
			ctx, _ := withHeaders(t.Context(), "Prefer: wait=60")
			res, err := w.sum(ctx, t, s, float64(i), 0.5)
			if err != nil || res.GetResult() != float64(i)+0.5 {
				t.Errorf("%s: sum = %v, %v, want %v", w.name, res, err, float64(i)+0.5)
			}
		})
	}
	awaitTasks(t, s.Gateway, len(wires()), momv1.TaskState_TASK_STATE_QUEUED)
	service.signal(t, syscall.SIGCONT)
}
