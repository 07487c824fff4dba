package gateway

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"holdline/internal/logonce"
	"holdline/internal/upstream"
)

// The breaker opens after breakerStreak failed calls in a row, or when at least breakerCalls calls came within the
// window and half of them failed.
const (
	breakerStreak = 5
	breakerRate   = 0.5
	breakerCalls  = 20
	breakerWindow = 10 * time.Second
)

// firstProbe is the time from the opening of the breaker to the first question for the service's health.
const firstProbe = 250 * time.Millisecond

// breaker knows when a service is not worth a dial. Only its health closes it
// again, never a caller's call. It is safe for concurrent use.
type breaker struct {
	pool         *upstream.Pool
	back         func(service string) // is called when the service is healthy again, before the breaker closes
	once         *logonce.Logger      // the breaker may open and close all the time
	streak, rate circuitbreaker.CircuitBreaker[any]
	probing      atomic.Bool
	closedAt     atomic.Pointer[time.Time] // the last time that it closed; zero: it never has
	failedBy     atomic.Pointer[string]    // the cause of the last failure; empty: there was none
}

func newBreaker(pool *upstream.Pool, back func(service string), once *logonce.Logger) *breaker {
	const never = 1000 * time.Hour // a probe closes the breaker, not time
	b := &breaker{pool: pool, back: back, once: once}
	opened := func(circuitbreaker.StateChangedEvent) { b.opened() }
	b.streak = circuitbreaker.NewBuilder[any]().WithFailureThreshold(breakerStreak).WithDelay(never).OnOpen(opened).Build()
	b.rate = circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(breakerRate, breakerCalls, breakerWindow).WithDelay(never).OnOpen(opened).Build()
	b.closedAt.Store(new(time.Time))
	b.failedBy.Store(new(string))
	return b
}

// open tells whether calls need not be tried.
func (b *breaker) open() bool { return b.streak.IsOpen() || b.rate.IsOpen() }

// answered counts a call that was answered. Such a call may open the breaker, too: if it is the twentieth in the window, and half of these have failed.
func (b *breaker) answered() {
	b.streak.RecordSuccess()
	b.rate.RecordSuccess()
}

// failed counts a call that every endpoint failed; the cause is that of its last
// attempt.
func (b *breaker) failed(cause string) {
	b.failedBy.Store(&cause)
	b.streak.RecordFailure()
	b.rate.RecordFailure()
}

// opened starts the probe that closes the breaker again. It is called whenever the breaker opens: while the breaker is open no call
// is tried, so no call could start the probe.
func (b *breaker) opened() {
	if b.probing.CompareAndSwap(false, true) {
		b.once.Warn("breaker open "+b.pool.Service(), "breaker open: calls are not tried until the service is healthy", "service", b.pool.Service(), "cause", *b.failedBy.Load())
		b.pool.Go(b.probe)
	}
}

// probe closes the breaker once the service is healthy.
func (b *breaker) probe(ctx context.Context) {
	opened := time.Now()
	sleep(ctx, firstProbe)
	healthy := b.pool.AwaitHealthy(ctx, func() bool { return true })
	if healthy {
		b.back(b.pool.Service())
		for _, one := range []circuitbreaker.CircuitBreaker[any]{b.streak, b.rate} {
			one.Open() // one that is closed has counted failures of the outage, too; to open and close it clears them
			one.Close()
		}
		now := time.Now()
		b.closedAt.Store(&now)
		b.once.Log(slog.LevelInfo, "breaker closed "+b.pool.Service(), "breaker closed: the service is healthy", "service", b.pool.Service(), "after", time.Since(opened).Round(time.Millisecond))
	}
	b.probing.Store(false)
	if healthy && b.open() { // it opened again while probing was still set
		b.opened()
	}
}
