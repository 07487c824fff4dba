package upstream

import (
	"context"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Configure changes the pool to fit its new route. Endpoints that stay keep their connections. Endpoints that go get no
// more attempts, and attempts under way there may end. New endpoints may be another program, so the pool forgets
// what it has found out about the service.
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
		p.forget() // and endpoints that are gone add nothing more
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

// said is a route's configuration, until the next one replaces it.
type said struct {
	Config
	over chan struct{}
}

// same returns the endpoints of a later route. For an endpoint that stays it returns the same *url.URL as before,
// since the pool finds the connections by this pointer.
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

// endpointsOf returns those endpoints that belong to a URL.
func endpointsOf(u *url.URL, some []*Endpoint) (list []*Endpoint) {
	for _, e := range some {
		if e.url == u {
			list = append(list, e)
		}
	}
	return list
}

// forget forgets which protocols the service has been seen to understand, and that it knows its name.
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

// Leaving has the pools whose routes are gone, and closes each of them once it has no attempt under way. The zero value is
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
