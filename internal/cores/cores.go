// Package cores decides how many threads of a process run Go code at a time.
package cores

import (
	"context"
	"runtime"
	"sync"
	"time"
)

const (
	interval = 100 * time.Millisecond
	// A process on one core that takes more than busy of its time in an interval gets all cores. One on all cores that takes less than calm of
	// one in each of calmIntervals goes back to one, where it will take less for the same work.
	busy, calm    = 0.8, 0.6
	calmIntervals = 20
)

// Save keeps the process on one core for as long as that is enough, and gives it all others that it may use within an interval of when it is not. It
// returns when ctx ends, and the process has all cores then. On systems that do not tell what a process uses it returns at once.
//
// It suits a process in which each goroutine computes for a moment only. While a core is idle, Go wakes another thread for
// each goroutine that may run, and where two threads share such work it costs up to twice as much. On one core, a goroutine that computes for long makes the others
// wait, for 10 ms at a time, so it should call UseAll.
func Save(ctx context.Context) {
	if _, known := used(); known {
		process.save(ctx, interval, func() time.Duration { took, _ := used(); return took })
	}
}

// UseAll gives a process that Save keeps on one core all others, for the next two seconds at least. It is for a goroutine
// that is about to compute for a millisecond or more; it takes much less than that. Elsewhere it does nothing.
func UseAll() { process.useAll() }

// process is the one that we are in.
var process saver

// saver decides how many cores there are. It is safe for concurrent use.
type saver struct {
	mu  sync.Mutex
	one bool // there is one core
	low int  // intervals in a row in which one would have been enough
}

// save looks at what the process has used in each interval.
func (s *saver) save(ctx context.Context, interval time.Duration, used func() time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	s.useOne()
	defer s.useAll()
	for before, since := used(), time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		took, at := used(), time.Now()
		s.look(float64(took-before) / float64(at.Sub(since)))
		before, since = took, at
	}
}

func (s *saver) useOne() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(true)
}

func (s *saver) useAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.low = 0; s.one {
		s.set(false)
	}
}

// look takes how much of one core's time was used in an interval.
func (s *saver) look(share float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.one && share > busy:
		s.set(false)
	case s.one:
	case share >= calm:
		s.low = 0
	default:
		if s.low++; s.low == calmIntervals {
			s.set(true)
		}
	}
}

// set says how many cores there are from now on. The caller holds mu.
func (s *saver) set(one bool) {
	s.one, s.low = one, 0
	if one {
		runtime.GOMAXPROCS(1)
	} else {
		runtime.SetDefaultGOMAXPROCS() // follows the limit of the container, too
	}
}
