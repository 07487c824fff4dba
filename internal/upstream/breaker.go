package upstream

import (
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

// Record counts a call: answered, or failed by every endpoint.
func (p *Pool) Record(answered bool) {
	b := p.breaker
	if answered {
		b.streak.RecordSuccess()
		b.rate.RecordSuccess()
		return
	}
	b.streak.RecordFailure()
	b.rate.RecordFailure()
	if b.open() && b.probing.CompareAndSwap(false, true) {
		p.log.Info("breaker open", "service", p.service)
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
		p.log.Info("breaker closed", "service", p.service, "down", time.Since(opened).Round(time.Millisecond))
	}
}
