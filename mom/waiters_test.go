package mom

import (
	"testing"

	momv1 "holdline/gen/mom/v1"
)

// A waiter hears of each of its tasks until it leaves: of all that happens, or of ends alone. Nothing
// remains of one that has left.
func TestWaiters(t *testing.T) {
	t.Parallel()
	const running, succeeded = momv1.TaskState_TASK_STATE_RUNNING, momv1.TaskState_TASK_STATE_SUCCEEDED
	ws := newWaiters()
	first, second, other := testID(), testID(), testID()
	heard := func(w *waiter) bool {
		select {
		case <-w.changed:
			return true
		default:
			return false
		}
	}
	all, ends := ws.add(false), ws.add(true)
	for _, w := range []*waiter{all, ends} {
		w.waitFor(first)
		w.waitFor(second)
		w.waitFor(second)
	}
	for _, step := range []struct {
		what      string
		do        func()
		all, ends bool
	}{
		{"the first runs", func() { ws.wake(first, running) }, true, false},
		{"the second ends", func() { ws.wake(second, succeeded) }, true, true},
		{"both run", func() { ws.wake(first, running); ws.wake(second, running) }, true, false},
		{"another task ends", func() { ws.wake(other, succeeded) }, false, false},
		{"something may have been missed", ws.wakeAll, true, true},
	} {
		step.do()
		if gotAll, gotEnds := heard(all), heard(ends); gotAll != step.all || gotEnds != step.ends {
			t.Errorf("%s: got %v, %v, want %v for who waits for all, %v for who waits for ends", step.what, gotAll, gotEnds, step.all, step.ends)
		}
	}
	all.leave()
	ends.leave()
	ws.wakeAll()
	if len(ws.byID) != 0 || heard(all) || heard(ends) {
		t.Errorf("after all have left: got %d tasks that are waited for, want none, and nobody who hears", len(ws.byID))
	}
}
