package mom

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"holdline/internal/contract"
	"holdline/internal/logonce"
	"holdline/internal/outage"
	"holdline/internal/upstream"
)

// How a replayer works.
const (
	leaseTime  = 10 * time.Second
	renewPause = 3 * time.Second
	// failPause is the time after an attempt that failed, or from a store that is
	// away, to the next.
	failPause = 250 * time.Millisecond

	// canaryPatience is how long a canary may keep others waiting while its service is
	// healthy.
	canaryPatience = 2 * time.Second

	maxAttempts = 20
	// maxBusy is how many attempts there may be at once, those included that were
	// begun before the service failed and have not ended since.
	maxBusy = 2 * maxWindow
	// Pause before an attempt after one that the service may have seen.
	firstBackoff, maxBackoff = 100 * time.Millisecond, 10 * time.Second
	// drainTime is how long attempts may go on when the MOM is told to end.
	drainTime = 20 * time.Second
)

// replayer sends the tasks of one shard to their service, when it is healthy and at
// its pace.
type replayer struct {
	store    Store
	shard    Shard
	pool     *upstream.Pool
	sender   *sender
	reaper   *reaper
	demand   *demand
	metrics  *metrics
	traffic  *traffic
	outages  *outage.Log
	log      *slog.Logger
	once     *logonce.Logger // of all shards
	shedding shedding
	healthy  bool      // as far as the last attempt told
	failed   time.Time // the last attempt that was not answered
	pace     pace
	busy     int  // attempts whose end Run has yet to hear of
	since    int  // counts the failures, each of which begins again with a canary
	old      int  // of busy, those that were begun before the last failure
	begun    int  // counts the attempts
	passed   int  // of these, those that were begun before another canary went beside them
	aside    int  // of busy, those of passed that were begun since the last failure
	away     bool // the store, as far as the last lease told

	mu       sync.Mutex
	inflight map[contract.TaskID]flight
}

// flight is a leased task on its way.
type flight struct {
	lease  Lease
	cancel context.CancelCauseFunc
}

func newReplayer(m *MOM, shard Shard) *replayer {
	r := m.cfg.Routes[shard.Service]
	return &replayer{
		store:    m.store,
		shard:    shard,
		pool:     m.pools[shard.Service],
		sender:   newSender(m.pools[shard.Service], m.shelf, r),
		reaper:   m.reapers[shard],
		demand:   m.demands[shard],
		metrics:  m.metrics,
		traffic:  m.traffic[shard.Service],
		outages:  m.outages,
		once:     m.once,
		log:      m.cfg.Logger.With("service", shard.Service, "shard", shard.Index),
		pace:     pace{window: 1},
		inflight: map[contract.TaskID]flight{},
	}
}

// Run replays until ctx ends, then lets attempts end.
func (r *replayer) Run(ctx context.Context) error {
	attempts, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var background sync.WaitGroup
	defer background.Wait()
	background.Go(func() { r.renew(attempts) })

	done := make(chan end, maxBusy)
	rung := make(chan struct{}) // the bell
	for listening := false; ctx.Err() == nil; {
		var allowed <-chan time.Time // by the queue's limits
		if r.healthy || r.busy == r.old+r.aside && r.waitHealthy(ctx) {
			allowed = r.lease(ctx, attempts, done)
		}
		var stuck <-chan time.Time
		if r.pace.window == 1 && r.room() == 0 && r.busy < maxBusy {
			stuck = time.After(canaryPatience)
		}
		if !listening && r.room() > 0 {
			listening = true
			background.Go(func() {
				if r.store.WaitBell(ctx, r.shard) != nil {
					return
				}
				select {
				case rung <- struct{}{}:
				case <-ctx.Done():
				}
			})
		}
		select {
		case one := <-done:
			r.learn(one)
			for range len(done) { // one lease for all that ended meanwhile
				r.learn(<-done)
			}
		case <-rung:
			listening = false
		case <-allowed:
		case <-stuck:
			r.setAside()
		case <-ctx.Done():
		}
	}
	r.drain(done, cut)
	return nil
}

// drain waits for attempts under way, and cuts them when they take too long.
func (r *replayer) drain(done <-chan end, cut context.CancelFunc) {
	timer := time.AfterFunc(drainTime, cut)
	defer timer.Stop()
	for ; r.busy > 0; r.busy-- {
		<-done
	}
	cut()
}

// end is how an attempt ended.
type end struct {
	since   int           // the failures before it began
	number  int           // of all attempts
	up      bool          // the service was there
	refused bool          // it takes nothing for now
	took    time.Duration // until it answered; 0 when it was not asked
}

// learn takes note of an attempt's end. One that began before the last failure tells
// nothing of what came after: when a connection breaks under many, the first of them
// counts, and answers on another connection do not send the next many after them.
func (r *replayer) learn(one end) {
	r.busy--
	switch {
	case one.since != r.since:
		r.old--
		return
	case one.number <= r.passed:
		r.aside--
		if !one.up {
			return // the service is judged by those after it
		}
	}
	switch {
	case !one.up:
		r.healthy, r.failed = false, time.Now()
		r.pace.reset()
		r.since, r.old, r.aside = r.since+1, r.busy, 0
	case one.refused:
		r.pace.reset()
	case one.took > 0:
		r.pace.answered(one.took)
	}
}

// setAside lets another canary go beside one that keeps us waiting, if the service is
// healthy: what is stuck may be the task.
func (r *replayer) setAside() {
	r.healthy, r.passed, r.aside = false, r.begun, r.busy-r.old
}

// room is how many tasks may be leased now, beside those that are under way.
func (r *replayer) room() int {
	return min(r.pace.window-(r.busy-r.old-r.aside), maxBusy-r.busy)
}

// waitHealthy asks for the service's health as long as there are tasks for it.
// It returns false when none are left or ctx has ended.
func (r *replayer) waitHealthy(ctx context.Context) bool {
	// Healthy or not, one that does not take a task is not asked at once again.
	sleep(ctx, time.Until(r.failed.Add(failPause)))
	r.demand.begin()
	asked := false
	r.healthy = r.pool.AwaitHealthy(ctx, func() bool {
		if !r.demand.there(ctx) {
			return false
		}
		if tasks, _ := r.demand.waiting(); asked && tasks > 0 { // asked in vain
			r.outages.Down(r.shard.Service, cmp.Or(r.pool.Ailment(), "unhealthy"), nil)
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
func (r *replayer) lease(ctx, attempts context.Context, done chan<- end) (allowed <-chan time.Time) {
	leases, err := r.store.Lease(ctx, r.shard, r.room(), leaseTime)
	var limited *LimitedError
	if errors.As(err, &limited) {
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
	for _, lease := range leases {
		running, cancel := context.WithCancelCause(attempts)
		r.mu.Lock()
		r.inflight[lease.ID] = flight{lease, cancel}
		r.mu.Unlock()
		r.busy++
		r.begun++
		since, number := r.since, r.begun
		go func() {
			one := r.attempt(running, lease)
			one.since, one.number = since, number
			cancel(nil)
			r.mu.Lock()
			delete(r.inflight, lease.ID)
			r.mu.Unlock()
			done <- one
		}()
	}
	return allowed
}

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
