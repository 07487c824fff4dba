// Package upstream sends calls to the endpoints of a route: one attempt at a
// time, each with an exact Outcome.
package upstream

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
)

// Pool is the endpoints of one route. It is safe for concurrent use.
type Pool struct {
	service   string
	endpoints []*Endpoint
	breaker   *breaker
	log       *slog.Logger

	ctx        context.Context // of what runs in the background
	stop       context.CancelFunc
	background sync.WaitGroup
}

// NewPool returns a pool that dials nothing yet. Close it when done.
func NewPool(service string, endpoints []*url.URL, log *slog.Logger) *Pool {
	p := &Pool{service: service, breaker: newBreaker(), log: log}
	p.ctx, p.stop = context.WithCancel(context.Background())
	for _, u := range endpoints {
		p.endpoints = append(p.endpoints, newEndpoint(u))
	}
	return p
}

// Service is the full name of the service whose endpoints these are.
func (p *Pool) Service() string { return p.service }

// Len is the number of endpoints.
func (p *Pool) Len() int { return len(p.endpoints) }

// Pick returns the less loaded of two endpoints picked at random, rather not
// the given one (nil for the first try).
func (p *Pool) Pick(not *Endpoint) *Endpoint {
	a := p.any(not)
	if b := p.any(not); b.inflight.Load() < a.inflight.Load() {
		return b
	}
	return a
}

func (p *Pool) any(not *Endpoint) *Endpoint {
	n := len(p.endpoints)
	if n == 1 {
		return p.endpoints[0]
	}
	i := rand.IntN(n)
	if p.endpoints[i] == not {
		i = (i + 1) % n
	}
	return p.endpoints[i]
}

// Healthy reports whether any endpoint is healthy now.
func (p *Pool) Healthy(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan bool)
	for _, e := range p.endpoints {
		go func() { answers <- e.Healthy(ctx, p.service) }()
	}
	healthy := false
	for range p.endpoints {
		if <-answers {
			healthy = true
			cancel() // one is enough
		}
	}
	return healthy
}

// Close ends what runs in the background and drops idle connections.
func (p *Pool) Close() {
	p.stop()
	p.background.Wait()
	for _, e := range p.endpoints {
		e.close()
	}
}
