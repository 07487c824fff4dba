package gateway

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"holdline/internal/contract"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

// target is where the calls of one service go.
type target struct {
	service string
	says    atomic.Pointer[route.Route] // the route; it may change while calls run
	pool    *upstream.Pool
	// breaker is open while a try at the pool makes no sense.
	breaker *breaker
	// budget bounds the retries of all calls together.
	budget *budget
	// stores: calls that the service cannot take go to the MOM.
	stores bool

	calls    prometheus.ObserverVec // by end
	attempts *prometheus.CounterVec // by result
	// What most calls count as.
	ok       prometheus.Observer
	stored   prometheus.Observer
	answered prometheus.Counter
	held     atomic.Int64 // how many of its callers MOMs hold
	said     atomic.Int32 // the number of shards that a MOM named last; 0: no MOM has
}

func newTarget(r *route.Route, breaker *breaker, stores bool, metrics *metrics) *target {
	t := &target{service: r.Service, pool: breaker.pool, breaker: breaker, budget: newBudget(), stores: stores}
	t.says.Store(r)
	t.calls, t.attempts = metrics.of(r.Service)
	t.ok, t.stored, t.answered = t.calls.WithLabelValues(string(endOK)), t.calls.WithLabelValues(string(endStored)), t.attempts.WithLabelValues(upstream.Answered.String())
	return t
}

// route is the current route of the service.
func (t *target) route() *route.Route { return t.says.Load() }

// shards is the number of shards for which ids are minted. Until a MOM has named the number, the route's is a guess.
func (t *target) shards() int { return cmp.Or(int(t.said.Load()), t.route().Shards) }

// newTaskID mints the id of a task, from the method and the key of its call; the key is empty if there is none.
func (t *target) newTaskID(procedure, key string) contract.TaskID {
	return contract.NewTaskID(t.service, t.shards(), contract.Anonymous, procedure, key)
}

// learnShards takes over the number of shards that a MOM has named.
func (t *target) learnShards(n int) { t.said.Store(int32(n)) }

// targets has all current targets, by service. It is safe for concurrent use.
type targets struct {
	now     atomic.Pointer[map[string]*target] // replaced, never changed
	version atomic.Int64                       // changes with each set
}

func newTargets() *targets {
	t := &targets{}
	t.set(map[string]*target{})
	return t
}

func (t *targets) set(all map[string]*target) {
	t.now.Store(&all)
	t.version.Add(1)
}

// all returns all targets. The map must not be changed.
func (t *targets) all() map[string]*target { return *t.now.Load() }

// of returns the target of a service; nil if the service has no route.
func (t *targets) of(service string) *target { return t.all()[service] }

// stored are the services whose calls may become tasks, sorted.
func (t *targets) stored() []string {
	all := t.all()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(service string) bool { return !all[service].stores })
}
