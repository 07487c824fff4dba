// Package cores decides how many threads of a process run Go code at a time.
package cores

import (
	"context"
	"runtime"
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
// It suits a process in which work passes from one goroutine to another, each of which computes for a moment only. While a core is idle, Go wakes another thread for
// each goroutine that may run, and where two threads share such work it costs up to twice as much. On one core, a goroutine that computes for long makes the others wait, for 10 ms at a time.
func Save(ctx context.Context) {
	if _, known := used(); known {
		save(ctx, interval, func() time.Duration { took, _ := used(); return took })
	}
}

// save looks at what a process has used in each interval.
func save(ctx context.Context, interval time.Duration, used func() time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	defer runtime.SetDefaultGOMAXPROCS()
	runtime.GOMAXPROCS(1)
	s := saver{one: true}
	for before, since := used(), time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		took, at := used(), time.Now()
		change := s.look(float64(took-before) / float64(at.Sub(since)))
		before, since = took, at
		switch {
		case change && s.one:
			runtime.GOMAXPROCS(1)
		case change:
			runtime.SetDefaultGOMAXPROCS() // follows the limit of the container, too
		}
	}
}

// saver decides.
type saver struct {
	one bool // it has one core
	low int  // intervals in a row in which one would have been enough
}

// look takes how much of one core's time was used in an interval. It returns whether one has changed.
func (s *saver) look(share float64) (changed bool) {
	switch {
	case s.one:
		changed = share > busy
	case share < calm:
		s.low++
		changed = s.low == calmIntervals
	default:
		s.low = 0
	}
	if changed {
		s.one, s.low = !s.one, 0
	}
	return changed
}
