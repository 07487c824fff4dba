// Package upstream sends calls to the endpoints of a route: one attempt at a
// time, each with an exact Outcome. A Pool knows the endpoints of a route, and
// which of them work.
package upstream

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdline/internal/logonce"
	"holdline/internal/wire"
)

// Pool is the endpoints of one route. It is safe for concurrent use.
type Pool struct {
	service string
	says    atomic.Pointer[said] // the route's configuration; replaced, never changed
	lacks   map[string]*lacking  // by media type: the last such call was not understood
	// lacksHTTP2: the last gRPC call was not sent, since its endpoint does not speak HTTP/2.
	lacksHTTP2 lacking
	picky      atomic.Bool // some call was not understood, or the route names the only protocol
	named      atomic.Bool // some endpoint has known the service's name
	lookup     func(ctx context.Context, host string) ([]string, error)
	log        *slog.Logger
	once       *logonce.Logger // an endpoint may be silent again and again

	// endpoints are the current endpoints; the slice is replaced, never changed. Whoever replaces it holds changing.
	endpoints atomic.Pointer[[]*Endpoint]
	changing  sync.Mutex
	resolving bool                   // names are looked up; changing is held
	ailment   atomic.Pointer[string] // of the endpoint that was found unhealthy last
	unhealthy chan struct{}          // asks for another look at names

	ctx        context.Context //nolint:containedctx // of what runs in the background
	stop       context.CancelFunc
	starting   sync.Mutex // of background against Close
	background sync.WaitGroup
}

// Config is what a pool needs.
type Config struct {
	Service   string     // full name
	Endpoints []*url.URL // at least one
	Health    Health
	HTTP      HTTP
	// Protocol is the only protocol that the service speaks; AnyProtocol: the pool finds out what its endpoints speak.
	Protocol Protocol
	Engine   wire.Engine
	Log      *slog.Logger
}

// NewPool returns a pool that dials nothing yet, and looks up names as long as
// it is open. Close it when done.
func NewPool(cfg Config) *Pool { return newPool(cfg, net.DefaultResolver.LookupHost) }

func newPool(cfg Config, lookup func(context.Context, string) ([]string, error)) *Pool {
	p := &Pool{
		service: cfg.Service, lacks: newLacks(), lookup: lookup, log: cfg.Log, once: logonce.New(cfg.Log),
		unhealthy: make(chan struct{}, 1),
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.endpoints.Store(new([]*Endpoint))
	p.Configure(cfg)
	return p
}

func isName(u *url.URL) bool { return net.ParseIP(u.Hostname()) == nil }

// Go calls run in the background. Its ctx ends when the pool is closed.
func (p *Pool) Go(run func(ctx context.Context)) { p.spawn(func() { run(p.ctx) }) }

// spawn runs something in the background, unless the pool is closed.
func (p *Pool) spawn(run func()) {
	p.starting.Lock()
	defer p.starting.Unlock()
	if p.ctx.Err() == nil {
		p.background.Go(run)
	}
}

// sleep waits; false when the pool is closed meanwhile.
func (p *Pool) sleep(d time.Duration) bool { return sleep(p.ctx, d) }

// Service is the full name of the service whose endpoints these are.
func (p *Pool) Service() string { return p.service }

// Len is the number of endpoints.
func (p *Pool) Len() int { return len(*p.endpoints.Load()) }

// Endpoints returns the current endpoints.
func (p *Pool) Endpoints() []*Endpoint { return *p.endpoints.Load() }

// Fitness counts the endpoints that are fit, and the ejected ones, which are picked last.
func (p *Pool) Fitness() (fit, ejected int) {
	for _, e := range *p.endpoints.Load() {
		if e.ejected.Load() {
			ejected++
		} else {
			fit++
		}
	}
	return fit, ejected
}

// Pick returns the less loaded of two endpoints picked at random. It prefers endpoints that
// were not tried for this call, and then endpoints that are not ejected.
func (p *Pool) Pick(tried ...*Endpoint) *Endpoint {
	all := *p.endpoints.Load()
	if len(all) == 1 {
		return all[0]
	}
	a, rank := pick(all, tried, nil)
	if b, same := pick(all, tried, a); same == rank && b.inflight.Load() < a.inflight.Load() {
		return b
	}
	return a
}

// pick starts at a random endpoint, leaves out past, and returns the first endpoint of the lowest rank. The rank is 1
// higher for an endpoint that is not fit, and 2 higher for an endpoint that was tried.
func pick(all, tried []*Endpoint, past *Endpoint) (best *Endpoint, least int) {
	start := rand.IntN(len(all))
	for i := range all {
		e, rank := all[(start+i)%len(all)], 0
		if e == past {
			continue
		}
		if slices.Contains(tried, e) {
			rank += 2
		}
		if e.ejected.Load() {
			rank++
		}
		if best == nil || rank < least {
			best, least = e, rank
		}
		if rank == 0 {
			break
		}
	}
	return best, least
}

// Busy tells whether attempts are under way.
func (p *Pool) Busy() bool {
	return slices.ContainsFunc(*p.endpoints.Load(), func(e *Endpoint) bool { return e.inflight.Load() > 0 })
}

// Close ends what runs in the background and drops idle connections. Attempts under way go on.
func (p *Pool) Close() {
	p.starting.Lock()
	p.stop()
	p.starting.Unlock()
	p.background.Wait()
	for _, e := range *p.endpoints.Load() {
		e.close()
	}
}
