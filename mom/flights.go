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
	// maxBusy is the maximum number of attempts at once, including those that no longer keep
	// a place.
	maxBusy = 2 * maxWindow
)

// flight is a leased task on its way.
type flight struct {
	lease  Lease
	began  time.Time
	cancel context.CancelCauseFunc
}

// placed tells whether the flight keeps a place in the window.
func (f *flight) placed(now time.Time) bool { return now.Before(f.began.Add(patience)) }

// flights has all flights of a replayer. It is safe for concurrent use.
type flights struct {
	mu  sync.Mutex
	all map[*flight]struct{}
}

// counts has numbers of flights. all: all flights; placed: those that keep a place. again, placedAgain: the same for
// tasks that have failed before. once: flights whose tasks may not run twice.
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

// oldest returns the flight that has kept its place for the longest time; nil when none keeps a place.
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

// leases returns the leases of all flights.
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
