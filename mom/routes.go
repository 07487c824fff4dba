package mom

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

// routes are the senders of all services that have a route now. They are safe for concurrent use.
type routes struct {
	now atomic.Pointer[map[string]*sender] // by service; replaced, never changed
}

func newRoutes() *routes {
	r := &routes{}
	r.now.Store(&map[string]*sender{})
	return r
}

// all is not to be changed.
func (r *routes) all() map[string]*sender { return *r.now.Load() }

// of sends the tasks of a service; nil without a route.
func (r *routes) of(service string) *sender { return r.all()[service] }

// services are those that have a route, sorted.
func (r *routes) services() []string { return slices.Sorted(maps.Keys(r.all())) }

// traffics are what is under way for each service. They are safe for concurrent use.
type traffics struct{ all sync.Map }

func (t *traffics) of(service string) *traffic {
	one, ok := t.all.Load(service)
	if !ok {
		one, _ = t.all.LoadOrStore(service, &traffic{})
	}
	return one.(*traffic) //nolint:forcetypeassert // nothing else is in it
}

// Replace puts other routes and schemas in the place of those that there are, while calls are stored and replayed. Tasks
// of a service go where its route says now. Where it has a route no longer, attempts under way end, and its tasks
// wait for a route. If Replace returns an error, nothing has changed.
func (m *MOM) Replace(table route.Table, schemas *route.Schemas) error {
	if err := checkRoutes(table); err != nil {
		return err
	}
	m.replacing.Lock()
	defer m.replacing.Unlock()
	m.cfg.Schemas.Replace(schemas) // first: no call of a new service comes before its schema
	m.follow(table)
	m.shards.lookSoon()
	m.shelf.keepAgain()
	return nil
}

// checkRoutes tells what is wrong with routes.
func checkRoutes(table route.Table) error {
	if len(table) == 0 {
		return route.ErrNoRoutes
	}
	for _, name := range []string{momv1connect.QueueServiceName, momv1connect.TaskServiceName, momv1connect.HoldServiceName} {
		if table[name] != nil {
			return fmt.Errorf("route %s: this service is the MOM's own", name)
		}
	}
	return nil
}

// follow has the senders follow the routes, and the shards the senders. replacing is held, unless nobody else knows m
// yet.
func (m *MOM) follow(table route.Table) {
	before, after := m.routes.all(), map[string]*sender{}
	for name, r := range table {
		s := before[name]
		switch pool := r.Pool(m.cfg.Engine, m.cfg.Logger); {
		case s == nil:
			s = newSender(upstream.NewPool(pool), m.shelf, r, m.learner.Confirm)
		case !reflect.DeepEqual(s.route(), r):
			s.pool.Configure(pool)
			s.says.Store(r)
			m.learner.Moved(name) // a new endpoint may have a new schema
		}
		after[name] = s
	}
	m.learner.Follow(table, func(service string) *upstream.Pool { return after[service].pool }) // before calls come: they wait for what it learns
	m.routes.now.Store(&after)
	m.shards.follow()
	for name, s := range before {
		if after[name] == nil {
			m.leaving.Add(s.pool, nil)
		}
	}
}
