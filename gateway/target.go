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
	says    atomic.Pointer[route.Route] // it may change while calls run
	pool    *upstream.Pool
	// breaker knows when the pool is not worth a try.
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
	held     atomic.Int64 // of its callers, at MOMs
	said     atomic.Int32 // how many shards the queue has, as a MOM said last; 0: none did
}

func newTarget(r *route.Route, breaker *breaker, stores bool, metrics *metrics) *target {
	t := &target{service: r.Service, pool: breaker.pool, breaker: breaker, budget: newBudget(), stores: stores}
	t.says.Store(r)
	t.calls, t.attempts = metrics.of(r.Service)
	t.ok, t.stored, t.answered = t.calls.WithLabelValues(string(endOK)), t.calls.WithLabelValues(string(endStored)), t.attempts.WithLabelValues(upstream.Answered.String())
	return t
}

// route is what its route says now.
func (t *target) route() *route.Route { return t.says.Load() }

// shards is among how many shards ids are minted: a guess until a MOM has said it.
func (t *target) shards() int { return cmp.Or(int(t.said.Load()), t.route().Shards) }

// newTaskID mints the id of a task of a method, and of the key of its call; empty: it has none.
func (t *target) newTaskID(procedure, key string) contract.TaskID {
	return contract.NewTaskID(t.service, t.shards(), contract.Anonymous, procedure, key)
}

// learnShards takes over what a MOM said.
func (t *target) learnShards(n int) { t.said.Store(int32(n)) }

// targets are all targets that there are now, by service. They are safe for concurrent use.
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

// all is not to be changed.
func (t *targets) all() map[string]*target { return *t.now.Load() }

// of is where the calls of a service go; nil without a route.
func (t *targets) of(service string) *target { return t.all()[service] }

// stored are the services whose calls may become tasks, sorted.
func (t *targets) stored() []string {
	all := t.all()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(service string) bool { return !all[service].stores })
}
