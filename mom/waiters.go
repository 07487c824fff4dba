package mom

import (
	"sync"
	"sync/atomic"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// waiters has all callers and readers who wait for transitions of a task. It is safe for
// concurrent use.
type waiters struct {
	mu sync.Mutex
	// whether a waiter is promised the answer of a task (see promise), by task and waiter
	byID map[contract.TaskID]map[*waiter]bool
}

// waiter waits for transitions of some tasks. changed has room for one signal, which carries no state: its receiver must
// read the tasks. Only one goroutine may use a waiter.
type waiter struct {
	changed chan struct{}
	ended   atomic.Pointer[ending] // the end of a task with its answer; nil: not known
	ends    bool                   // wake the waiter only for the end of a task
	all     *waiters
	tasks   []contract.TaskID
}

// ending is a task's end with an answer, for those who wait for it.
type ending struct {
	id     contract.TaskID
	answer *momv1.Answer
}

func newWaiters() *waiters {
	return &waiters{byID: map[contract.TaskID]map[*waiter]bool{}}
}

// add returns a waiter without tasks. Call leave when it is not needed any more.
func (ws *waiters) add(ends bool) *waiter {
	return &waiter{changed: make(chan struct{}, 1), ends: ends, all: ws}
}

// waitFor makes the waiter wait for one more task. Calling it twice for a task is harmless.
func (w *waiter) waitFor(id contract.TaskID) {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	if w.all.byID[id] == nil {
		w.all.byID[id] = map[*waiter]bool{}
	}
	if _, there := w.all.byID[id][w]; !there {
		w.all.byID[id][w] = false
	}
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

// wake wakes those who wait for a task that has made a transition. answer is the answer with which the task has ended; nil if it is not known.
func (ws *waiters) wake(id contract.TaskID, state momv1.TaskState, answer *momv1.Answer) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w, promised := range ws.byID[id] {
		if w.ends && contract.IsOpen(state) || promised && answer == nil {
			continue
		}
		if answer != nil {
			w.ended.Store(&ending{id, answer})
		}
		nudge(w.changed)
	}
}

// promise keeps those who wait for a task from being woken without its answer: this process is about to give them the answer. It returns
// whether anybody waits. If the answer does not come, call takeBack.
func (ws *waiters) promise(id contract.TaskID) (any bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.byID[id] {
		ws.byID[id][w], any = true, true
	}
	return any
}

// takeBack takes the promise of an answer back, and wakes those who wait for it.
func (ws *waiters) takeBack(id contract.TaskID) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.byID[id] {
		ws.byID[id][w] = false
		nudge(w.changed)
	}
}

// wakeAll wakes everybody, because transitions may have been missed.
func (ws *waiters) wakeAll() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, waiting := range ws.byID {
		for w := range waiting {
			nudge(w.changed)
		}
	}
}
