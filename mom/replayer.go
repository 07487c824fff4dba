package mom

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"holdline/internal/logonce"
	"holdline/internal/outage"
	"holdline/internal/wire"
)

// How a replayer works.
const (
	// failPause is the time after a canary that failed, or from a store that is away, to
	// the next.
	failPause = 250 * time.Millisecond
	// drainTime is how long attempts may go on when the MOM is told to end.
	drainTime = 20 * time.Second
	// While many tasks are under way, new ones are leased when there is room for a part of the window, or after so long.
	gatherShare = 2
	gatherTime  = time.Millisecond
)

// replayStore is what a replayer needs of the store.
type replayStore interface {
	renewStore
	// Lease takes tasks from the head of the queue for d, as far as there is room: others
	// go past those for which there is none. If there is no other, one that has failed before
	// is taken without room for it. Tasks whose TTL is over expire on the way. None when
	// the shard is empty or paused. Repeatable ones are marked as sent. more: tasks were left in the queue, or
	// that is not known. Once the store is asked, it is waited for even if ctx ends, and what it has leased is returned. *LimitedError.
	Lease(ctx context.Context, shard Shard, room Room, d time.Duration) (leases []Lease, more bool, err error)
	// Attend says whether this process is about to lease what is queued in a shard. As long as it is, others are not called for
	// the tasks that it adds. With room, leases for it are taken together with tasks that it adds, while somebody awaits them.
	Attend(shard Shard, attended bool, room Room)
	// Await blocks until tasks may be queued in a shard, or ctx ends, whose error it returns. It returns leases that
	// were taken as Attend has said. Else the shard's bell has rung. That rings when this process has added tasks without a
	// lease; and in every process that watches the shard, when there are tasks that nobody is about to lease, when replay may go on,
	// and whenever a Watch connects. It may ring for nothing. One that rang before the call is
	// heard, by one call.
	Await(ctx context.Context, shard Shard, d time.Duration) (leases []Lease, more bool, err error)
}

// endpoints tell of the health of a service: an upstream.Pool, or a test that has the say.
type endpoints interface {
	AwaitHealthy(ctx context.Context, goOn func() bool) bool
	Ailment() string
}

// replayer has the tasks of one shard sent to their service, when it is healthy and at
// its pace.
type replayer struct {
	store     replayStore
	shard     Shard
	endpoints endpoints
	attempt   func(context.Context, Lease) report // makes one, and records what it came to
	ending    context.Context                     //nolint:containedctx // ends when the MOM does, and not with the route; nil: that of Run
	demand    *demand
	outages   *outage.Log
	log       *slog.Logger
	once      *logonce.Logger // of all shards

	workers wire.Workers // make attempts
	flights flights
	pace    pace
	healthy bool      // as far as is known: its health was asked since the last failure
	failed  time.Time // when an attempt was last not answered
	heard   time.Time // when an attempt was last answered
	grown   time.Time // when the window last grew without an answer
	rest    time.Time // no canary is sent before this time
	fresh   bool      // a task that was refused before was refused again, and nothing was answered since
	away    bool      // the store did not answer when tasks were last to be leased
	empty   bool      // nothing was left in the queue after the last lease, and the bell has not rung since
}

// Run replays until ctx ends, then lets attempts end.
func (r *replayer) Run(ctx context.Context) error {
	r.workers, r.flights.all = make(wire.Workers), map[*flight]struct{}{}
	defer close(r.workers)
	attempts, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var background sync.WaitGroup
	defer background.Wait()
	background.Go(func() { (&renewal{r.store, r.shard, &r.flights, r.once}).Run(attempts) })

	done := make(chan report, maxBusy)
	var heard chan news // nil: nobody listens
	for ctx.Err() == nil {
		var allowed <-chan time.Time // by the queue's limits
		if !r.empty && r.room().Tasks > 0 && (r.healthy || r.waitHealthy(ctx)) {
			r.store.Attend(r.shard, true, Room{})
			allowed = r.lease(ctx, attempts, done)
		}
		room := r.room()
		r.attend(room)
		var slow <-chan time.Time
		oldest := r.flights.oldest(time.Now())
		if oldest != nil && (room.Tasks <= 0 || r.pace.silent > 0) {
			slow = time.After(time.Until(oldest.began.Add(patience)))
		}
		if heard == nil && room.Tasks > 0 {
			heard = make(chan news, 1)
			background.Go(func() { heard <- r.await(ctx) })
		}
		select {
		case one := <-done:
			r.learn(one)
			r.gather(done)
		case one := <-heard:
			heard, r.empty = nil, !one.more
			r.start(attempts, one.leases, done)
		case <-allowed:
		case <-slow:
			r.setAside(oldest)
		case <-ctx.Done():
		}
	}
	r.demand.well.Store(false)
	r.store.Attend(r.shard, false, Room{})
	if heard != nil {
		r.start(attempts, (<-heard).leases, done)
	}
	ending := r.ending
	if ending == nil {
		ending = ctx
	}
	r.drain(ending, done, cut)
	return nil
}

// attend tells the store what is done next, with room for so many.
func (r *replayer) attend(room Room) {
	well := r.healthy && !r.away
	r.demand.well.Store(well)
	attended := well && room.Tasks > 0
	if !attended || !r.empty {
		room = Room{} // it is leased for, if there is any
	}
	r.store.Attend(r.shard, attended, room)
}

// news are of the bell, or of leases that were taken together with new tasks.
type news struct {
	leases []Lease
	more   bool
}

func (r *replayer) await(ctx context.Context) news {
	leases, more, err := r.store.Await(ctx, r.shard, leaseTime)
	return news{leases, more || err != nil} // the next lease tells what is wrong
}

// gather learns of attempts that end together, and waits for others when so few have ended that a lease for each
// would cost the store more than the tasks do.
func (r *replayer) gather(done <-chan report) {
	for range len(done) {
		r.learn(<-done)
	}
	if r.empty || !r.few() {
		return
	}
	over := time.NewTimer(gatherTime)
	defer over.Stop()
	for r.few() {
		select {
		case one := <-done:
			r.learn(one)
		case <-over.C:
			return
		}
	}
}

// few tells that there is room for few tasks beside those that are under way.
func (r *replayer) few() bool {
	room := r.room().Tasks
	return room > 0 && room < r.pace.window/gatherShare
}

// drain waits for attempts under way, and cuts them when they take too long and the MOM ends.
func (r *replayer) drain(ending context.Context, done <-chan report, cut context.CancelFunc) {
	defer context.AfterFunc(ending, func() { time.AfterFunc(drainTime, cut) })()
	for r.flights.count(time.Now()).all > 0 {
		r.flights.remove((<-done).flight)
	}
	cut()
}

// report is what an attempt tells of its service.
type report struct {
	flight  *flight
	up      bool          // the service was there
	unsent  bool          // it has surely not seen the task
	refused bool          // it takes nothing for now
	took    time.Duration // until it answered; 0 when it was not asked
}

// learn takes note of an attempt's end. A failure may be that of its task alone, so it is the
// window that judges the service: each failure halves it, and when one leaves a canary,
// that waits for a moment. Many that were sent before a failure may fail with it, since they
// shared a connection. If they are answered, that tells nothing of what came after, and
// does not send the next many after them.
func (r *replayer) learn(one report) {
	r.flights.remove(one.flight)
	earlier := one.flight.began.Before(r.failed)
	switch {
	case !one.up && !one.unsent && r.othersDoWell(one.flight): // it is the task
	case !one.up:
		r.pace.failed()
		r.healthy, r.failed = false, time.Now()
		if r.pace.window == 1 && !earlier {
			r.rest = r.failed.Add(failPause)
		}
	case one.refused:
		r.pace.reset()
		r.fresh = r.fresh || one.flight.lease.PutBack > 0
	case one.took > 0:
		r.heard, r.fresh = time.Now(), false
		if !earlier {
			r.pace.answered(one.took)
		}
	}
}

// othersDoWell tells that an attempt that failed says nothing of the service: its task has failed
// before and others are sent, or it was slow and others were answered meanwhile.
func (r *replayer) othersDoWell(f *flight) bool {
	return f.lease.Attempts > 0 && r.pace.window > 1 || !f.placed(time.Now()) && f.began.Before(r.heard)
}

// setAside takes note that an attempt has lost its place, since it takes long. If nothing was
// answered since it began, all places may be lost to such: then the window grows, if the
// service is healthy.
func (r *replayer) setAside(slow *flight) {
	if r.heard.Before(slow.began) && r.grown.Before(slow.began) {
		r.pace.stuck()
		r.healthy, r.grown = false, time.Now()
	}
}

// room is what may be leased now, beside what is under way. The oldest tasks go first, as long as it is not they that the service
// refuses.
func (r *replayer) room() Room {
	room := r.pace.room(r.flights.count(time.Now()))
	room.Fresh = r.fresh
	return room
}

// waitHealthy asks for the service's health as long as there are tasks for it.
// It returns false when none are left or ctx has ended.
func (r *replayer) waitHealthy(ctx context.Context) bool {
	r.demand.well.Store(false)
	r.store.Attend(r.shard, false, Room{})
	// Healthy or not, one that does not take a task is not asked at once again.
	sleep(ctx, time.Until(r.rest))
	r.demand.begin()
	asked := false
	r.healthy = r.endpoints.AwaitHealthy(ctx, func() bool {
		if !r.demand.there(ctx) {
			return false
		}
		if asked { // in vain
			r.pace.reset()
			if r.demand.waits() {
				r.outages.Down(r.shard.Service, cmp.Or(r.endpoints.Ailment(), "unhealthy"), nil)
			}
		}
		asked = true
		return true
	})
	if r.healthy && !r.demand.paused() {
		r.log.Debug("service is healthy: replaying")
	}
	return r.healthy
}

// lease takes tasks as far as the pace allows and starts their attempts. When the
// limits of the queue allow none, it returns a timer for the next look.
func (r *replayer) lease(ctx, attempts context.Context, done chan<- report) (allowed <-chan time.Time) {
	leases, more, err := r.store.Lease(ctx, r.shard, r.room(), leaseTime)
	r.empty = !more
	if limited, ok := errors.AsType[*LimitedError](err); ok {
		allowed, err = time.After(limited.Wait), nil
	}
	if away := err != nil && ctx.Err() == nil; away != r.away {
		if r.away = away; away {
			r.once.Warn("leases", "no leases to be had: nothing is replayed", "service", r.shard.Service, "error", err)
		}
	}
	if r.away {
		allowed = time.After(failPause) // no bell says that it is back
	}
	r.start(attempts, leases, done)
	return allowed
}

// start starts attempts at tasks.
func (r *replayer) start(attempts context.Context, leases []Lease, done chan<- report) {
	began := time.Now()
	for _, lease := range leases {
		running, cancel := context.WithCancelCause(attempts)
		f := &flight{lease: lease, began: began, cancel: cancel}
		r.flights.add(f)
		r.workers.Start(wire.JobFunc(func() {
			one := r.attempt(running, lease)
			one.flight = f
			cancel(nil)
			done <- one
		}))
	}
}
