package mom

import (
	"sync"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// waiters are those who wait for transitions of a task. It is safe for
// concurrent use.
type waiters struct {
	mu   sync.Mutex
	byID map[contract.TaskID]map[*waiter]struct{}
}

// waiter waits for transitions of some tasks. changed has room for one signal: whoever reads it
// looks at the tasks, which are the truth. One goroutine may use it.
type waiter struct {
	changed chan struct{}
	ends    bool // wake it for the end of a task only
	all     *waiters
	tasks   []contract.TaskID
}

func newWaiters() *waiters {
	return &waiters{byID: map[contract.TaskID]map[*waiter]struct{}{}}
}

// add returns a waiter without tasks, which leave takes away.
func (ws *waiters) add(ends bool) *waiter {
	return &waiter{changed: make(chan struct{}, 1), ends: ends, all: ws}
}

// waitFor makes the waiter hear of a task, too. To say so twice is harmless.
func (w *waiter) waitFor(id contract.TaskID) {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	if w.all.byID[id] == nil {
		w.all.byID[id] = map[*waiter]struct{}{}
	}
	w.all.byID[id][w] = struct{}{}
	w.tasks = append(w.tasks, id)
}

// leave ends the wait for all of its tasks.
func (w *waiter) leave() {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	for _, id := range w.tasks {
		delete(w.all.byID[id], w)
		if len(w.all.byID[id]) == 0 {
			delete(w.all.byID, id)
		}
	}
}

// wake tells of a transition.
func (ws *waiters) wake(id contract.TaskID, state momv1.TaskState) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.byID[id] {
		if !w.ends || !contract.IsOpen(state) {
			nudge(w.changed)
		}
	}
}

// wakeAll tells everybody that transitions may have been missed.
func (ws *waiters) wakeAll() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, waiting := range ws.byID {
		for w := range waiting {
			nudge(w.changed)
		}
	}
}
