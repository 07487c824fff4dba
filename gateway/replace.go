package gateway

import (
	"fmt"
	"reflect"

	"holdline/internal/route"
	"holdline/internal/upstream"
)

// Replace replaces the routes and schemas, while calls run. A call under way keeps the
// schema that it began with. If its service has no route any more, the call still ends normally, and the
// connections are closed after it. If Replace returns an error, nothing has changed.
func (g *Gateway) Replace(routes route.Table, schemas *route.Schemas) error {
	if err := checkRoutes(routes, g.front.mom != nil); err != nil {
		return err
	}
	g.replacing.Lock()
	defer g.replacing.Unlock()
	g.front.schemas.Replace(schemas) // first: no call of a new service comes before its schema
	g.follow(routes)
	return nil
}

// checkRoutes returns an error if routes cannot be used.
func checkRoutes(routes route.Table, stores bool) error {
	if len(routes) == 0 {
		return route.ErrNoRoutes
	}
	for _, name := range ofMOM {
		if stores && routes[name] != nil {
			return fmt.Errorf("route %s: this service is the MOM's own; give --mom instead", name)
		}
	}
	return nil
}

// follow changes the targets to fit the routes. What the gateway has learned about a service stays, whatever its new route says. The caller
// holds g.replacing, unless nobody else knows g yet.
func (g *Gateway) follow(routes route.Table) {
	before, after := g.targets.all(), map[string]*target{}
	for name, r := range routes {
		t := before[name]
		switch pool := r.Pool(g.engine, g.log); {
		case t == nil:
			t = newTarget(r, newBreaker(upstream.NewPool(pool), g.learner.Back, g.front.once), true, g.metrics)
		case !reflect.DeepEqual(t.route(), r):
			t.pool.Configure(pool)
			t.says.Store(r)
			g.learner.Moved(name) // a new endpoint may have a new schema
		}
		after[name] = t
	}
	for name, t := range before {
		switch {
		case !t.stores: // a MOM's own
			after[name] = t
		case after[name] == nil:
			g.leaving.Add(t.pool, func() {
				if g.targets.of(name) == nil { // otherwise the route is back
					g.metrics.forget(name)
				}
			})
		}
	}
	g.learner.Follow(routes, func(service string) *upstream.Pool { return after[service].pool }) // before calls come: they wait for the schemas that the learner fetches
	g.targets.set(after)
	for name := range before {
		if after[name] == nil {
			g.metrics.forget(name) // calls under way may count once more, until its pool is closed
		}
	}
}
