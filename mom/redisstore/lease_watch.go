package redisstore

import (
	"sync"
	"time"
)

// leaseWatch knows since when leases near their end were seen not to be renewed, by
// the clock of this process: that of Redis may be set ahead, and then all leases
// are over at once, those too whose holders go on to renew them.
type leaseWatch struct {
	mu   sync.Mutex
	seen map[string]seenLease // by ULID
}

// seenLease is a lease that ends, or ended, at a time of Redis.
type seenLease struct {
	end   string
	since time.Time
}

// ripe lists ULID and end of each lease that was not renewed for so long.
func (w *leaseWatch) ripe(now time.Time, grace time.Duration) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ulid, lease := range w.seen {
		if now.Sub(lease.since) >= grace {
			list = append(list, ulid, lease.end)
		}
	}
	return list
}

// nearLease is a lease whose time is over soon: in left, or since then.
type nearLease struct {
	ulid, end string
	left      time.Duration
}

const (
	// watchPause is the least time between two looks at a lease.
	watchPause = time.Millisecond
	// strangerPause is that for a lease which this process cannot end, since only a
	// newer release knows its task.
	strangerPause = time.Second
)

// see is told of all leases that are near their end. It returns the time until one
// of them may be over; negative when there is none.
func (w *leaseWatch) see(now time.Time, grace time.Duration, near []nearLease) (next time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next = -1
	seen := make(map[string]seenLease, len(near))
	for _, lease := range near {
		known, ok := w.seen[lease.ulid]
		if !ok || known.end != lease.end {
			known = seenLease{end: lease.end, since: now}
		}
		seen[lease.ulid] = known
		wait := max(lease.left, grace-now.Sub(known.since), watchPause)
		if lease.left <= 0 && now.Sub(known.since) >= max(grace, watchPause) {
			wait = strangerPause
		}
		if next < 0 || wait < next {
			next = wait
		}
	}
	w.seen = seen
	return next
}
