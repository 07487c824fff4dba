package upstream

import (
	"context"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Names are looked up every 2 to 5 s: replicas come and go without notice, and
// gateways must not all ask at the same time. While no endpoint is healthy, names are also looked up after each health check:
// a service that is back is often back at another address.
const (
	resolvePause  = 2 * time.Second
	resolveJitter = 3 * time.Second
	lookupTimeout = time.Second
)

// resolve updates the endpoints of routes with names when the names' addresses change.
func (p *Pool) resolve() {
	for {
		p.update()
		timer := time.NewTimer(resolvePause + rand.N(resolveJitter))
		select {
		case <-timer.C:
		case <-p.unhealthy:
			timer.Stop()
		case <-p.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// update looks up all names once and replaces the endpoints. If the route has changed meanwhile, update drops the addresses that it
// found, and looks again.
func (p *Pool) update() {
	p.changing.Lock()
	said, before := p.says.Load(), *p.endpoints.Load()
	p.changing.Unlock()
	var after []*Endpoint
	for _, u := range said.Endpoints {
		after = append(after, p.addressesOf(u, before)...)
	}
	p.changing.Lock()
	defer p.changing.Unlock()
	if p.says.Load() != said {
		closeAllBut(before, after)
		p.resolveSoon()
		return
	}
	p.replace(after)
}

// replace replaces the endpoints; changing is held.
func (p *Pool) replace(after []*Endpoint) {
	before := *p.endpoints.Load()
	p.endpoints.Store(&after)
	for _, e := range closeAllBut(after, before) {
		if e.addr != "" {
			p.log.Info("endpoint gone", "service", p.service, "endpoint", e)
		}
	}
}

// closeAllBut closes the endpoints in some that are not in kept, and returns them. Calls under way go on.
func closeAllBut(kept, some []*Endpoint) (closed []*Endpoint) {
	for _, e := range some {
		if !slices.Contains(kept, e) {
			e.close()
			closed = append(closed, e)
		}
	}
	return closed
}

// resolveSoon asks for another look at names.
func (p *Pool) resolveSoon() {
	select {
	case p.unhealthy <- struct{}{}:
	default: // asked already
	}
}

// addressesOf returns the endpoints of one URL: one for each address that its name now
// resolves to. A new address counts only once a health check has found the service there, since
// an address may now belong to another service. If the resolver fails, returns nothing, or returns no address
// where the service answers, the endpoints stay as they were.
func (p *Pool) addressesOf(u *url.URL, before []*Endpoint) []*Endpoint {
	had, known := endpointsOf(u, before), map[string]*Endpoint{}
	for _, e := range had {
		known[e.addr] = e
	}
	if !isName(u) {
		return had
	}
	ctx, cancel := context.WithTimeout(p.ctx, lookupTimeout)
	defer cancel()
	addrs, err := p.lookup(ctx, u.Hostname())
	if err != nil || len(addrs) == 0 {
		p.log.Debug("name not resolved", "service", p.service, "host", u.Hostname(), "error", err)
		return had
	}
	found := make([]*Endpoint, len(addrs))
	var probes sync.WaitGroup
	for i, addr := range addrs {
		addr = net.JoinHostPort(addr, portOf(u))
		if e := known[addr]; e != nil {
			found[i] = e
			continue
		}
		probes.Go(func() {
			fresh := newEndpoint(p, u, addr)
			bounded, cancel := context.WithTimeout(p.ctx, probeTimeout)
			defer cancel()
			if fresh.Healthy(bounded) {
				p.log.Info("endpoint found", "service", p.service, "endpoint", fresh)
				found[i] = fresh
			} else {
				fresh.close()
			}
		})
	}
	probes.Wait()
	var fit []*Endpoint
	for _, e := range found {
		if e != nil {
			fit = append(fit, e)
		}
	}
	if len(fit) == 0 {
		return had
	}
	return fit
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}
