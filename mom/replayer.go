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
	// failPause is the time to the next canary after a canary that failed, and to the next lease after
	// the store did not answer.
	failPause = 250 * time.Millisecond
	// drainTime is how long attempts may go on when the MOM ends.
	drainTime = 20 * time.Second
	// While many tasks are under way, new tasks are leased only when there is room for 1/gatherShare of the window, or after gatherTime.
	gatherShare = 2
	gatherTime  = time.Millisecond
)

// replayStore is what a replayer needs of the store.
type replayStore interface {
	renewStore
	// Lease takes tasks from the head of the queue for d, as far as there is room. Tasks for which there is no room keep their places, and
	// tasks behind them are taken. If there is no other task, one that has failed before
	// is taken without room for it. Tasks whose TTL is over expire on the way. Lease returns no tasks when
	// the shard is empty or paused. Repeatable tasks are marked as sent. more: tasks were left in the queue, or
	// this is not known. It is also true of a lease that ends early since its calls have LeaseBytes. Once the store is asked, Lease waits for its reply even if ctx ends, and returns the leases. *LimitedError.
	Lease(ctx context.Context, shard Shard, room Room, d time.Duration) (leases []Lease, more bool, err error)
	// Attend sets whether this process is about to lease the queued tasks of a shard. While it is, the tasks that it adds do not
	// ring the bell of other processes. With room, the store leases tasks in the same step in which this process adds them, while somebody calls Await.
	Attend(shard Shard, attended bool, room Room)
	// Await blocks until tasks may be queued in a shard, or until ctx ends; then it returns the error of ctx. It returns leases that
	// were taken because of Attend. If it returns none, the shard's bell has rung. The bell rings when this process has added tasks without a
	// lease. In every process that watches the shard it rings when there are tasks that nobody is about to lease, when replay may go on,
	// and whenever a Watch connects. It may ring without a reason. If it rang before the call,
	// one call of Await returns at once.
	Await(ctx context.Context, shard Shard, d time.Duration) (leases []Lease, more bool, err error)
}

// endpoints shows the health of a service. It is a sender, or a test that decides the health.
type endpoints interface {
	AwaitHealthy(ctx context.Context, goOn func() bool) bool
	Ailment() string
}

// replayer has the tasks of one shard sent to their service while the service is healthy, at
// the service's pace.
type replayer struct {
	store     replayStore
	shard     Shard
	endpoints endpoints
	attempt   func(context.Context, Lease) report // makes an attempt, and records its result
	ending    context.Context                     //nolint:containedctx // ends when the MOM does, and not with the route; nil: that of Run
	demand    *demand
	outages   *outage.Log
	log       *slog.Logger
	once      *logonce.Logger // of all shards

	workers wire.Workers // make attempts
	flights flights
	pace    pace
	healthy bool      // the service is healthy, as far as is known: it was asked since the last failure
	failed  time.Time // when an attempt was last not answered
	heard   time.Time // when an attempt was last answered
	grown   time.Time // when the window last grew without an answer
	rest    time.Time // no canary is sent before this time
	fresh   bool      // a task that was refused before was refused again, and nothing was answered since
	away    bool      // the store did not answer the last attempt to lease tasks
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
	var heard chan news // nil: no await is under way
	for ctx.Err() == nil {
		var allowed <-chan time.Time // fires when the queue's limits allow the next lease
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

// attend reports to the store whether this replayer is about to lease tasks, and for how many it has room.
func (r *replayer) attend(room Room) {
	well := r.healthy && !r.away
	r.demand.well.Store(well)
	attended := well && room.Tasks > 0
	if !attended || !r.empty {
		room = Room{} // tasks are leased for this room by lease, if there is any room
	}
	r.store.Attend(r.shard, attended, room)
}

// news is a result of Await: the bell has rung, or there are leases that were taken together with new tasks.
type news struct {
	leases []Lease
	more   bool
}

func (r *replayer) await(ctx context.Context) news {
	leases, more, err := r.store.Await(ctx, r.shard, leaseTime)
	return news{leases, more || err != nil} // after an error the next lease will find out what is wrong
}

// gather learns the results of attempts that have ended. If only few have ended, it waits a moment for others: a lease for each
// would cost the store more than the tasks themselves.
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

// few tells whether there is room for only few tasks beside those that are under way.
func (r *replayer) few() bool {
	room := r.room().Tasks
	return room > 0 && room < r.pace.window/gatherShare
}

// drain waits for attempts under way. It cuts those that still run drainTime after ending has ended.
func (r *replayer) drain(ending context.Context, done <-chan report, cut context.CancelFunc) {
	defer context.AfterFunc(ending, func() { time.AfterFunc(drainTime, cut) })()
	for r.flights.count(time.Now()).all > 0 {
		r.flights.remove((<-done).flight)
	}
	cut()
}

// report is what an attempt shows about its service.
type report struct {
	flight  *flight
	up      bool          // the service was there
	unsent  bool          // the service has surely not seen the task
	refused bool          // the service takes no tasks for now
	took    time.Duration // the time until the service answered; 0 when it was not asked
}

// learn records an attempt's end. A failure may be due to its task alone, so we judge the service
// by the window: each failure halves the window, and when only a canary is left,
// the canary waits for a moment. Many tasks that were sent before a failure may fail together with it, since they
// shared a connection. If tasks that were sent before a failure are answered, this shows nothing about the time after the failure, so
// it does not widen the window.
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

// othersDoWell tells whether a failed attempt shows nothing about the service: its task has failed
// before and other tasks are sent, or it was slow and other tasks were answered meanwhile.
func (r *replayer) othersDoWell(f *flight) bool {
	return f.lease.Attempts > 0 && r.pace.window > 1 || !f.placed(time.Now()) && f.began.Before(r.heard)
}

// setAside is called when an attempt has lost its place because it takes long. If nothing was
// answered since it began, slow attempts may have taken all places: then the window grows, if the
// service is healthy.
func (r *replayer) setAside(slow *flight) {
	if r.heard.Before(slow.began) && r.grown.Before(slow.began) {
		r.pace.stuck()
		r.healthy, r.grown = false, time.Now()
	}
}

// room returns how many tasks may be leased now, beside those under way. The oldest tasks go first, unless it is the oldest tasks that the service
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
	// A service that has just failed a task is not asked again at once, healthy or not.
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
		allowed = time.After(failPause) // no bell rings when the store is back
	}
	if more && sizeOf(leases) >= LeaseBytes {
		allowed = time.After(0) // the lease was cut short, and there may be room for more
	}
	r.start(attempts, leases, done)
	return allowed
}

// sizeOf is how many bytes of calls leases have brought.
func sizeOf(leases []Lease) (sum int) {
	for _, lease := range leases {
		sum += lease.Size
	}
	return sum
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
