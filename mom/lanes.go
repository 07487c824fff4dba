package mom

import "sync"

// maxLanes is how many HTTP/2 connections to an endpoint there are for tasks that are
// alone on theirs: enough for all that one shard has under way.
const maxLanes = maxWindow

// lanes says which tasks share a connection to the endpoints of a service: a service
// that breaks the connection of one task breaks that of those beside it, and makes
// uncertain what may not run twice. It is safe for concurrent use.
type lanes struct {
	mu   sync.Mutex
	busy []int // tasks under way on each lane but the shared one
}

// take returns the lane of a task, and what to call when the task has left it. Tasks
// that may run twice share lane 0. One that may not, and one with an attempt behind it,
// which may have broken a connection, is alone on a lane while there are enough.
func (l *lanes) take(repeatable, again bool) (_ int, leave func()) {
	if repeatable && !again {
		return 0, func() {}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lane := 0
	for i, busy := range l.busy {
		if busy < l.busy[lane] {
			lane = i
		}
	}
	if len(l.busy) == 0 || l.busy[lane] > 0 && len(l.busy) < maxLanes {
		lane = len(l.busy)
		l.busy = append(l.busy, 0)
	}
	l.busy[lane]++
	return lane + 1, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.busy[lane]--
	}
}
