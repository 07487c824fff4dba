package upstream

import (
	"context"
	"time"
)

// How often a service that is down is asked for its health: often at first, and rarely when it has
// been down for long.
const (
	probePause     = 250 * time.Millisecond
	longProbePause = 10 * time.Second
	longDown       = 10 * time.Minute
	probeTimeout   = time.Second
)

// Healthy reports whether any endpoint is healthy now.
func (p *Pool) Healthy(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := *p.endpoints.Load()
	answers := make(chan bool)
	for _, e := range all {
		go func() { answers <- e.Healthy(ctx) }()
	}
	healthy := false
	for range all {
		if <-answers {
			healthy = true
			cancel() // one healthy endpoint is enough
		}
	}
	if !healthy {
		p.resolveSoon()
	}
	return healthy
}

// Ailment is the last reason why an endpoint was found unhealthy, in a word such as "tls" or
// "not-serving"; empty if no endpoint was found unhealthy.
func (p *Pool) Ailment() string {
	if why := p.ailment.Load(); why != nil {
		return *why
	}
	return ""
}

// AwaitHealthy asks again and again until an endpoint is healthy; then it returns
// true. It calls wanted before each look, and returns false when wanted returns false, because nobody waits
// any more, or when ctx ends. If the route changes meanwhile, it asks at once.
func (p *Pool) AwaitHealthy(ctx context.Context, wanted func() bool) bool {
	for began := time.Now(); wanted() && ctx.Err() == nil; {
		says := p.says.Load()
		bounded, cancel := context.WithTimeout(ctx, probeTimeout)
		healthy := p.Healthy(bounded)
		cancel()
		if healthy {
			return true
		}
		pause := probePause
		if time.Since(began) > longDown {
			pause = longProbePause
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-says.over:
			began = time.Now()
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return false
}

// sleep waits; false when ctx ends meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
