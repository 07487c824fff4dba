package mom

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// How a replayer works.
const (
	leaseTime  = 10 * time.Second
	renewPause = 3 * time.Second
	// failPause is the time after an attempt that failed, or from a store that is
	// away, to the next.
	failPause = 250 * time.Millisecond

	maxAttempts = 20
	// Pause before an attempt after one that the service may have seen.
	firstBackoff, maxBackoff = 100 * time.Millisecond, 10 * time.Second
	// drainTime is how long attempts may go on when the MOM is told to end.
	drainTime = 20 * time.Second
)

// replayer sends the tasks of one shard to their service, when it is healthy and at
// its pace.
type replayer struct {
	store   Store
	shard   Shard
	pool    *upstream.Pool
	sender  *sender
	reaper  *reaper
	demand  *demand
	metrics *metrics
	log     *slog.Logger
	healthy bool      // as far as the last attempt told
	failed  time.Time // the last attempt that was not answered
	pace    pace
	busy    int  // attempts whose end Run has yet to hear of
	away    bool // the store, as far as the last lease told

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
		sender:   newSender(m.pools[shard.Service], m.cfg.Schemas, r.AttemptTimeout),
		reaper:   m.reapers[shard],
		demand:   m.demands[shard],
		metrics:  m.metrics,
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

	done := make(chan end, maxWindow)
	rung := make(chan struct{}) // the bell
	for listening := false; ctx.Err() == nil; {
		var allowed <-chan time.Time // by the queue's limits
		if r.healthy || r.busy == 0 && r.waitHealthy(ctx) {
			allowed = r.lease(ctx, attempts, done)
		}
		if !listening && r.busy < r.pace.window {
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
	up   bool          // the service was there
	took time.Duration // until it answered; 0 when it was not asked
}

// learn takes note of an attempt's end.
func (r *replayer) learn(one end) {
	r.busy--
	r.healthy = one.up
	switch {
	case !one.up:
		r.failed = time.Now()
		r.pace.reset()
	case one.took > 0:
		r.pace.answered(one.took)
	}
}

// waitHealthy asks for the service's health as long as there are tasks for it.
// It returns false when none are left or ctx has ended.
func (r *replayer) waitHealthy(ctx context.Context) bool {
	started := time.Now()
	// Healthy or not, one that does not take a task is not asked at once again.
	sleep(ctx, time.Until(r.failed.Add(failPause)))
	r.demand.begin()
	r.healthy = r.pool.AwaitHealthy(ctx, func() bool { return r.demand.there(ctx) })
	if r.healthy {
		r.log.Info("service is healthy: replaying", "queued", r.demand.depth.Queued, "down", time.Since(started).Round(time.Millisecond))
	}
	return r.healthy
}

// lease takes tasks as far as the pace allows and starts their attempts. When the
// limits of the queue allow none, it returns a timer for the next look.
func (r *replayer) lease(ctx, attempts context.Context, done chan<- end) (allowed <-chan time.Time) {
	leases, err := r.store.Lease(ctx, r.shard, r.pace.window-r.busy, leaseTime)
	var limited *LimitedError
	if errors.As(err, &limited) {
		allowed, err = time.After(limited.Wait), nil
	}
	if away := err != nil && ctx.Err() == nil; away != r.away {
		if r.away = away; away {
			r.log.Warn("no leases to be had", "error", err)
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
		go func() {
			one := r.attempt(running, lease)
			cancel(nil)
			r.mu.Lock()
			delete(r.inflight, lease.ID)
			r.mu.Unlock()
			done <- one
		}()
	}
	return allowed
}

// attempt sends one task and records what came of it.
func (r *replayer) attempt(ctx context.Context, lease Lease) end {
	log := r.log.With("task", lease.ID, "attempt", lease.Attempts+1)
	if err := r.store.MarkSent(ctx, lease); err != nil {
		// Cancelled, leased by another, or the store is away: not ours to send.
		log.Debug("task not sent", "error", err)
		if !errors.Is(err, ErrFenced) {
			r.unmark(ctx, lease)
		}
		return end{up: true}
	}
	sent := time.Now()
	answer, result := r.sender.send(ctx, lease)
	one := end{
		up:   answer != nil || result.Kind == upstream.Unavailable || result.Kind == upstream.Exhausted,
		took: time.Since(sent),
	}
	r.metrics.sent.WithLabelValues(r.shard.Service, result.Kind.String()).Inc()
	record := func(ctx context.Context) error {
		switch {
		case answer != nil:
			return r.store.Settle(ctx, lease, answer)
		case result.Kind == upstream.NotSent || result.Kind == upstream.Refused:
			return r.store.Release(ctx, lease)
		case lease.Repeatable:
			backoff := min(firstBackoff<<min(lease.Attempts, 10), maxBackoff)
			_, err := r.store.Retry(ctx, lease, result.Cause, backoff, maxAttempts)
			r.reaper.within(backoff)
			return err
		}
		return r.store.Park(ctx, lease, result.Cause)
	}
	if answer == nil {
		log.Info("no answer", "cause", result.Cause, "procedure", lease.Call.GetProcedure())
	}
	switch err := persist(ctx, record); {
	case errors.Is(err, ErrFenced):
		r.metrics.lost.WithLabelValues(r.shard.Service).Inc()
		log.Warn("attempt not recorded: the lease was lost")
	case err != nil:
		log.Warn("attempt not recorded: the lease will end by itself", "error", err)
	}
	return one
}

// unmark gives a task back that was not sent, since its mark may be there: with
// its lease over, it would pass for one that has run.
func (r *replayer) unmark(ctx context.Context, lease Lease) {
	err := persist(ctx, func(ctx context.Context) error { return r.store.Release(ctx, lease) })
	if err != nil && !errors.Is(err, ErrFenced) {
		r.log.Warn("task not given back: the lease will end by itself", "task", lease.ID, "error", err)
	}
}

// renew prolongs the leases of what is under way, and ends attempts whose lease
// is lost.
func (r *replayer) renew(ctx context.Context) {
	ticker := time.NewTicker(renewPause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r.mu.Lock()
		var leases []Lease
		for _, f := range r.inflight {
			leases = append(leases, f.lease)
		}
		r.mu.Unlock()
		if len(leases) == 0 {
			continue
		}
		lost, err := r.store.Renew(ctx, r.shard, leases, leaseTime)
		if err != nil {
			r.log.Warn("leases not renewed", "error", err)
		}
		for _, lease := range lost {
			r.mu.Lock()
			if f, ok := r.inflight[lease.ID]; ok && f.lease.Epoch == lease.Epoch {
				f.cancel(ErrFenced)
			}
			r.mu.Unlock()
		}
	}
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
