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
	once         *logonce.Logger // it may open and close all the time
	streak, rate circuitbreaker.CircuitBreaker[any]
	probing      atomic.Bool
	closedAt     atomic.Pointer[time.Time] // the last time that it closed; zero: it never has
	openedBy     atomic.Pointer[string]    // the cause of the failure that opened it last; empty: none has
}

func newBreaker(pool *upstream.Pool, once *logonce.Logger) *breaker {
	const never = 1000 * time.Hour // a probe closes the breaker, not time
	b := &breaker{
		pool: pool, once: once,
		streak: circuitbreaker.NewBuilder[any]().WithFailureThreshold(breakerStreak).WithDelay(never).Build(),
		rate:   circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(breakerRate, breakerCalls, breakerWindow).WithDelay(never).Build(),
	}
	b.closedAt.Store(new(time.Time))
	b.openedBy.Store(new(string))
	return b
}

// open tells whether calls need not be tried.
func (b *breaker) open() bool { return b.streak.IsOpen() || b.rate.IsOpen() }

// answered counts a call that was answered.
func (b *breaker) answered() {
	b.streak.RecordSuccess()
	b.rate.RecordSuccess()
}

// failed counts a call that every endpoint failed; the cause is that of its last
// attempt.
func (b *breaker) failed(cause string) {
	b.streak.RecordFailure()
	b.rate.RecordFailure()
	if b.open() && b.probing.CompareAndSwap(false, true) {
		b.openedBy.Store(&cause)
		b.once.Warn("breaker open "+b.pool.Service(), "breaker open: calls are not tried until the service is healthy", "service", b.pool.Service(), "cause", cause)
		b.pool.Go(b.probe)
	}
}

// probe closes the breaker once the service is healthy.
func (b *breaker) probe(ctx context.Context) {
	defer b.probing.Store(false)
	opened := time.Now()
	sleep(ctx, firstProbe)
	if b.pool.AwaitHealthy(ctx, func() bool { return true }) {
		b.streak.Close()
		b.rate.Close()
		now := time.Now()
		b.closedAt.Store(&now)
		b.once.Log(slog.LevelInfo, "breaker closed "+b.pool.Service(), "breaker closed: the service is healthy", "service", b.pool.Service(), "after", time.Since(opened).Round(time.Millisecond))
	}
}
