package upstream

import (
	"context"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Configure has the pool follow what its route says now. Endpoints that stay keep their connections. Those that go get no
// more attempts, and attempts under way there may end. New endpoints may be another program, so what the
// service has shown of itself is forgotten.
func (p *Pool) Configure(cfg Config) {
	p.changing.Lock()
	defer p.changing.Unlock()
	was, before := p.says.Load(), *p.endpoints.Load()
	says := &said{Config: cfg, over: make(chan struct{})}
	says.Endpoints = was.same(cfg)
	p.says.Store(says) // new endpoints read it
	var after []*Endpoint
	fresh := false
	for _, u := range says.Endpoints {
		had := endpointsOf(u, before)
		if had == nil {
			// Until its name is looked up, an endpoint is whatever dialling it gives.
			had, fresh = []*Endpoint{newEndpoint(p, u, "")}, true
		}
		after = append(after, had...)
	}
	if picky := says.Protocol != AnyProtocol || says.HTTP == OnlyHTTP1; picky || fresh {
		p.picky.Store(picky)
	}
	p.replace(after)
	if fresh {
		p.forget() // and those that are gone tell nothing more
	}
	switch named := slices.ContainsFunc(says.Endpoints, isName); {
	case named && !p.resolving:
		p.resolving = true
		p.spawn(p.resolve)
	case named:
		p.resolveSoon()
	}
	if was != nil {
		close(was.over)
	}
}

// said is what a route says, until it is over.
type said struct {
	Config
	over chan struct{}
}

// same returns the endpoints of a later route. Those that are the same as before are the very URLs of before,
// by which their connections are found.
func (s *said) same(next Config) []*url.URL {
	if s == nil || s.HTTP != next.HTTP { // endpoints speak one version for as long as they live
		return next.Endpoints
	}
	var urls []*url.URL
	for _, u := range next.Endpoints {
		if known := slices.IndexFunc(s.Endpoints, func(old *url.URL) bool { return *old == *u }); known >= 0 {
			u = s.Endpoints[known]
		}
		if !slices.Contains(urls, u) {
			urls = append(urls, u)
		}
	}
	return urls
}

// endpointsOf are those of some endpoints that belong to a URL.
func endpointsOf(u *url.URL, some []*Endpoint) (list []*Endpoint) {
	for _, e := range some {
		if e.url == u {
			list = append(list, e)
		}
	}
	return list
}

// forget forgets what the service has shown that it understands, and that it knows its name.
func (p *Pool) forget() {
	for _, lack := range p.lacks {
		lack.forget()
	}
	p.lacksHTTP2.forget()
	p.named.Store(false)
}

func (l *lacking) forget() {
	l.at.Store(0)
	l.told.Store(0)
	l.understood.Store(false)
}

// leavePause is the time between two looks whether a pool is still needed.
const leavePause = time.Second

// Leaving are pools whose routes are gone: each is closed once no attempt is under way there. The zero value is
// ready, and safe for concurrent use.
type Leaving struct {
	mu    sync.Mutex
	pools map[*Pool]func()
}

// Add adds a pool that gets no new calls. A call that has begun may still come. When the pool is closed, closed is called, unless it is nil.
func (l *Leaving) Add(p *Pool, closed func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pools == nil {
		l.pools = map[*Pool]func(){}
	}
	l.pools[p] = closed
}

// Run closes pools until ctx ends, and then all that are left.
func (l *Leaving) Run(ctx context.Context) error {
	idle := map[*Pool]bool{} // at the last look; between two tries, a call is not under way
	for sleep(ctx, leavePause) {
		l.mu.Lock()
		for p, closed := range l.pools {
			gone := idle[p] && !p.Busy()
			if idle[p] = !p.Busy(); gone {
				delete(idle, p)
				delete(l.pools, p)
				p.Close()
				if closed != nil {
					closed()
				}
			}
		}
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.pools {
		p.Close()
	}
	l.pools = nil
	return nil
}
