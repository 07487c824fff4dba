package mom

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// nearEnd is the value of Parked.Share from which on we warn of parked tasks.
	nearEnd = 0.8
	// alarmPause is the time between two warnings of the same kind about a queue.
	alarmPause = time.Hour
)

// alarm warns of the parked tasks of one queue, before and after they are given up,
// and of tasks that this MOM cannot replay. It is safe for concurrent use.
type alarm struct {
	log *slog.Logger

	mu       sync.Mutex
	near     time.Time // the last warning of each kind
	ended    time.Time
	unrouted time.Time
	givenUp  int64 // since the last warning
}

// look is called after each look at a shard of the queue.
func (a *alarm) look(now time.Time, reaped Reaped) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.givenUp += reaped.GivenUp
	if a.givenUp > 0 && now.Sub(a.ended) >= alarmPause {
		a.log.Warn("dead or uncertain tasks given up: nobody came in time, or their calls took too much room", "tasks", a.givenUp)
		a.ended, a.givenUp = now, 0
	}
	if reaped.Parked.Share >= nearEnd && now.Sub(a.near) >= alarmPause {
		a.log.Warn("dead or uncertain tasks will soon be given up: retry or dismiss them",
			"oldest", reaped.Parked.Oldest.Round(time.Second).String(), "bytes", reaped.Parked.Bytes, "used", reaped.Parked.Share)
		a.near = now
	}
}

// noRoute is called when a service has tasks and this MOM has no route to it. Another MOM may have one, so
// the tasks may be replayed all the same.
func (a *alarm) noRoute(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.unrouted) >= alarmPause {
		a.log.Warn("a queue has tasks, and this MOM has no route to their service: they wait for a MOM that has one, or expire")
		a.unrouted = now
	}
}
