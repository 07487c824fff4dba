package upstream

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// The breaker opens on so many failed calls in a row, or when half of at least
// so many calls failed within the window.
const (
	breakerStreak = 5
	breakerRate   = 0.5
	breakerCalls  = 20
	breakerWindow = 10 * time.Second
)

// breaker knows when a service is not worth a dial. Only its health closes it
// again, never a caller's call.
type breaker struct {
	streak, rate circuitbreaker.CircuitBreaker[any]
	probing      atomic.Bool
	closed       atomic.Pointer[time.Time] // the last time; nil: never
	cause        atomic.Pointer[string]    // of the last opening; nil: there was none
}

func newBreaker() *breaker {
	const never = 1000 * time.Hour // it is a probe that closes, not time
	return &breaker{
		streak: circuitbreaker.NewBuilder[any]().WithFailureThreshold(breakerStreak).WithDelay(never).Build(),
		rate:   circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(breakerRate, breakerCalls, breakerWindow).WithDelay(never).Build(),
	}
}

func (b *breaker) open() bool { return b.streak.IsOpen() || b.rate.IsOpen() }

// Open tells whether the breaker is open: calls need not be tried.
func (p *Pool) Open() bool { return p.breaker.open() }

// Closed is when the breaker closed last, since the service was healthy; zero: never.
func (p *Pool) Closed() time.Time {
	if at := p.breaker.closed.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// OpenedBy is the cause of the failure that opened the breaker last; empty: none has.
func (p *Pool) OpenedBy() string {
	if cause := p.breaker.cause.Load(); cause != nil {
		return *cause
	}
	return ""
}

// Answered counts a call that was answered.
func (p *Pool) Answered() {
	p.breaker.streak.RecordSuccess()
	p.breaker.rate.RecordSuccess()
}

// Failed counts a call that every endpoint failed; the cause is that of its last
// attempt.
func (p *Pool) Failed(cause string) {
	b := p.breaker
	b.streak.RecordFailure()
	b.rate.RecordFailure()
	if b.open() && b.probing.CompareAndSwap(false, true) {
		b.cause.Store(&cause)
		p.once.Warn("open", "breaker open: calls are not tried until the service is healthy", "service", p.service, "cause", cause)
		p.spawn(p.probe)
	}
}

// probe closes the breaker once the service is healthy.
func (p *Pool) probe() {
	defer p.breaker.probing.Store(false)
	opened := time.Now()
	if p.sleep(probePause) && p.AwaitHealthy(p.ctx, func() bool { return true }) {
		p.breaker.streak.Close()
		p.breaker.rate.Close()
		now := time.Now()
		p.breaker.closed.Store(&now)
		p.once.Log(slog.LevelInfo, "closed", "breaker closed: the service is healthy", "service", p.service, "after", time.Since(opened).Round(time.Millisecond))
	}
}
