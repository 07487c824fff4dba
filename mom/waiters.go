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

// waiter is one of them. Its channel holds a signal at most: whoever reads it
// looks at the task, which is the truth.
type waiter struct {
	c    chan struct{}
	ends bool // wake for the end only
}

func newWaiters() *waiters {
	return &waiters{byID: map[contract.TaskID]map[*waiter]struct{}{}}
}

// add waits for a task from now on, until remove is called; ends waits for its
// end only.
func (ws *waiters) add(id contract.TaskID, ends bool) (changed <-chan struct{}, remove func()) {
	c := make(chan struct{}, 1)
	return c, ws.join(id, c, ends)
}

// join is add with a channel that may be shared between tasks; it needs room for
// one signal.
func (ws *waiters) join(id contract.TaskID, c chan struct{}, ends bool) (remove func()) {
	w := &waiter{c: c, ends: ends}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.byID[id] == nil {
		ws.byID[id] = map[*waiter]struct{}{}
	}
	ws.byID[id][w] = struct{}{}
	return func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		delete(ws.byID[id], w)
		if len(ws.byID[id]) == 0 {
			delete(ws.byID, id)
		}
	}
}

// wake tells of a transition.
func (ws *waiters) wake(id contract.TaskID, state momv1.TaskState) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.byID[id] {
		if !w.ends || !contract.IsOpen(state) {
			w.signal()
		}
	}
}

// wakeAll tells everybody that transitions may have been missed.
func (ws *waiters) wakeAll() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, waiting := range ws.byID {
		for w := range waiting {
			w.signal()
		}
	}
}

func (w *waiter) signal() { nudge(w.c) }
