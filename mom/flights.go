package mom

import (
	"context"
	"sync"
	"time"
)

const (
	// patience is how long an attempt keeps its place in the window. A task that takes longer
	// is slow or stuck, and others are sent without waiting for it.
	patience = 2 * time.Second
	// maxBusy is how many attempts there may be at once, those included that no longer keep
	// a place.
	maxBusy = 2 * maxWindow
)

// flight is a leased task on its way.
type flight struct {
	lease  Lease
	began  time.Time
	cancel context.CancelCauseFunc
}

// placed tells whether it keeps a place in the window.
func (f *flight) placed(now time.Time) bool { return now.Before(f.began.Add(patience)) }

// flights are those of a replayer. They are safe for concurrent use.
type flights struct {
	mu  sync.Mutex
	all map[*flight]struct{}
}

// counts are numbers of flights: of all, of those whose tasks have failed before, how many of
// either keep a place, and those whose tasks may not run twice.
type counts struct{ all, placed, again, placedAgain, once int }

func (fs *flights) add(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.all[f] = struct{}{}
}

func (fs *flights) remove(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.all, f)
}

func (fs *flights) count(now time.Time) (n counts) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for f := range fs.all {
		placed, again := f.placed(now), f.lease.Attempts > 0
		n.all++
		if placed {
			n.placed++
		}
		if again {
			n.again++
		}
		if !f.lease.Repeatable {
			n.once++
		}
		if placed && again {
			n.placedAgain++
		}
	}
	return n
}

// oldest is the one that keeps its place for the longest time; nil when none keeps one.
func (fs *flights) oldest(now time.Time) (oldest *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for f := range fs.all {
		if f.placed(now) && (oldest == nil || f.began.Before(oldest.began)) {
			oldest = f
		}
	}
	return oldest
}

// leases are those of all that are on their way.
func (fs *flights) leases() (leases []Lease) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for f := range fs.all {
		leases = append(leases, f.lease)
	}
	return leases
}

// cut ends the attempt of a lease that is lost.
func (fs *flights) cut(lost Lease) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for f := range fs.all {
		if f.lease.ID == lost.ID && f.lease.Epoch == lost.Epoch {
			f.cancel(ErrFenced)
		}
	}
}
