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

// routes has the senders of all services that have a route now. It is safe for concurrent use.
type routes struct {
	now atomic.Pointer[map[string]*sender] // by service; replaced, never changed
}

func newRoutes() *routes {
	r := &routes{}
	r.now.Store(&map[string]*sender{})
	return r
}

// all returns all senders. The map must not be changed.
func (r *routes) all() map[string]*sender { return *r.now.Load() }

// of returns the sender of a service; nil if the service has no route.
func (r *routes) of(service string) *sender { return r.all()[service] }

// services returns the services that have a route, sorted.
func (r *routes) services() []string { return slices.Sorted(maps.Keys(r.all())) }

// traffics has the traffic of each service. It is safe for concurrent use.
type traffics struct{ all sync.Map }

func (t *traffics) of(service string) *traffic {
	one, ok := t.all.Load(service)
	if !ok {
		one, _ = t.all.LoadOrStore(service, &traffic{})
	}
	return one.(*traffic) //nolint:forcetypeassert // nothing else is in it
}

// Replace replaces the routes and schemas, while calls are stored and replayed. Tasks
// of a service then go to the endpoints of its new route. If a service has no route any more, attempts under way end normally, and its tasks
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

// checkRoutes returns an error if routes cannot be used.
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

// follow changes the senders to fit the routes, and the shards to fit the senders. The caller holds m.replacing, unless nobody else knows m
// yet.
func (m *MOM) follow(table route.Table) {
	before, after := m.routes.all(), map[string]*sender{}
	for name, r := range table {
		s := before[name]
		switch pool := r.Pool(m.cfg.Engine, m.cfg.Logger); {
		case s == nil:
			s = newSender(upstream.NewPool(pool), m.shelf, r, m.learner)
		case !reflect.DeepEqual(s.route(), r):
			s.pool.Configure(pool)
			s.says.Store(r)
			m.learner.Moved(name) // a new endpoint may have a new schema
		}
		after[name] = s
	}
	m.learner.Follow(table, func(service string) *upstream.Pool { return after[service].pool }) // before calls come: they wait for the schemas that the learner fetches
	m.routes.now.Store(&after)
	m.shards.follow()
	for name, s := range before {
		if after[name] == nil {
			m.leaving.Add(s.pool, nil)
		}
	}
}
