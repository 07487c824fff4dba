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
		{"the first runs", func() { ws.wake(first, running, nil) }, true, false},
		{"the second ends", func() { ws.wake(second, succeeded, nil) }, true, true},
		{"both run", func() { ws.wake(first, running, nil); ws.wake(second, running, nil) }, true, false},
		{"another task ends", func() { ws.wake(other, succeeded, nil) }, false, false},
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

// Those to whom an answer was promised are not woken without it, unless the promise is taken back.
func TestWaitersArePromisedAnAnswer(t *testing.T) {
	t.Parallel()
	const succeeded = momv1.TaskState_TASK_STATE_SUCCEEDED
	ws, id, answer := newWaiters(), testID(), &momv1.Answer{RecordVersion: 1}
	early, late := ws.add(true), ws.add(true)
	early.waitFor(id)
	if !ws.promise(id) || ws.promise(testID()) {
		t.Error("somebody waits for the one task, and nobody for the other")
	}
	late.waitFor(id)
	woken := func(w *waiter) bool {
		select {
		case <-w.changed:
			return true
		default:
			return false
		}
	}
	ws.wake(id, succeeded, nil)
	if woken(early) || !woken(late) {
		t.Error("woken: the one with a promise, or not the other")
	}
	early.waitFor(id) // to say so twice is harmless
	ws.takeBack(id)
	if !woken(early) || early.ended.Load() != nil {
		t.Error("the promise was taken back: want it woken to look for itself")
	}
	ws.promise(id)
	ws.wake(id, succeeded, answer)
	if end := early.ended.Load(); !woken(early) || end == nil || end.id != id || end.answer != answer {
		t.Errorf("answered: got %v, want the answer", end)
	}
	early.leave()
	late.leave()
	if len(ws.byID) != 0 {
		t.Errorf("%d tasks are waited for by nobody", len(ws.byID))
	}
}
