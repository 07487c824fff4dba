package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/logonce"
	"holdline/internal/outage"
	"holdline/internal/route"
	"holdline/internal/secret"
	"holdline/internal/upstream"
)

// target is where the calls of one service go.
type target struct {
	route *route.Route
	pool  *upstream.Pool
	// breaker is the pool's.
	breaker *breaker
	// budget bounds the retries of all calls together.
	budget *budget
	// stores: calls that the service cannot take go to the MOM.
	stores bool
	// schema is a digest of what we know of the service; empty without a schema.
	schema string

	calls    prometheus.ObserverVec // by outcome
	attempts *prometheus.CounterVec // by result
	held     atomic.Int64           // of its callers, at MOMs
	said     atomic.Int32           // how many shards the queue has, as a MOM said last; 0: none did
}

func newTarget(r *route.Route, breaker *breaker, metrics *metrics) *target {
	t := &target{route: r, pool: breaker.pool, breaker: breaker, budget: newBudget()}
	t.calls, t.attempts = metrics.of(r.Service, breaker)
	return t
}

// shards is among how many shards ids are minted: a guess until a MOM has said it.
func (t *target) shards() int { return cmp.Or(int(t.said.Load()), t.route.Shards) }

// learnShards takes over what a MOM said.
func (t *target) learnShards(n int) { t.said.Store(int32(n)) }

// proxy sends calls to their services. Bytes go through untouched, in the
// version of HTTP that the caller spoke.
type proxy struct {
	targets map[string]*target
	own     http.Handler // for all but calls of those
	schemas *route.Schemas
	mom     *upstream.Pool // nil: nothing is stored
	secret  *secret.Secret // for the MOMs; nil without
	words   *words         // nil without MOMs
	held    atomic.Int64   // callers, at MOMs
	maxHeld int64
	// draining ends when holds are to end with handles.
	draining context.Context //nolint:containedctx // it is the gateway's life, not a call's
	log      *slog.Logger
	once     *logonce.Logger
	outages  *outage.Log
}

// ServeHTTP implements http.Handler, for callers.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.mom != nil && contract.IsOperators(r.URL.Path) {
		p.operatorsOnly(w, r)
		return
	}
	p.dispatch(w, r)
}

// dispatch sends a request where it belongs. Calls of routed services come first, past the
// mux of what is the gateway's own.
func (p *proxy) dispatch(w http.ResponseWriter, r *http.Request) {
	service, _, _ := route.SplitProcedure(r.URL.Path)
	target := p.targets[service]
	switch {
	case r.Method == http.MethodConnect:
		http.Error(w, "no tunnels here", http.StatusMethodNotAllowed)
	case target == nil:
		p.own.ServeHTTP(w, r)
	default:
		p.serve(w, r, target, p.schemas.Method(r.URL.Path))
	}
}

// nobody answers for paths that are neither routed nor the gateway's own.
func (p *proxy) nobody(w http.ResponseWriter, r *http.Request) {
	service, _, ok := route.SplitProcedure(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	err := noRoute(service)
	p.notice(err, service, "", "peer", r.RemoteAddr)
	contract.WriteError(w, r, err)
}

// noTaskNamed answers for paths below /v1/tasks that are no task's.
func noTaskNamed(w http.ResponseWriter, r *http.Request) {
	contract.WriteError(w, r, contract.Errorf(momv1.Reason_REASON_TASK_NOT_FOUND,
		"this path names no task: GET /v1/tasks/{id} and /v1/tasks/{id}/answer do"))
}

func (p *proxy) serve(w http.ResponseWriter, r *http.Request, target *target, method *route.Method) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	c := &call{target: target, method: method, cancel: cancel, began: time.Now(), outcome: callLeft}
	defer c.end()
	if timeout, ok := contract.Timeout(r.Header, isGRPC(r.Header)); ok {
		c.deadline = c.began.Add(timeout)
		defer c.endAtDeadline(w, timeout)()
	}
	cleanRequest(r.Header)
	if !target.stores {
		p.introduce(r)
	}
	c.req = upstream.Request{In: r, Header: r.Header, Length: r.ContentLength, Look: c.unary()}
	if err := c.readBody(w); err != nil {
		c.outcome = callRefused
		p.refuse(w, c, c.badBody(err), "")
		return
	}
	if err := p.judge(c); err != nil {
		p.refuseCall(w, c, err)
		return
	}
	if p.stores(c) && wantsTask(r.Header) {
		if c.req.Stream != nil {
			p.refuseCall(w, c, requestTooLarge())
			return
		}
		if cause, refused := target.pool.Refuses(&c.req); refused {
			p.refuseCall(w, c, unsendable(cause, c))
			return
		}
		p.handOff(ctx, w, c, nil, func(end step) { p.explain(w, c, nil, upstream.Outcome{}, end) })
		return
	}
	if c.replayable() { // nobody knows how long a stream may take
		c.req.Timeout = target.route.TryTimeout
	}
	p.direct(ctx, w, c)
}

// direct sends the call to its service, as often as it makes sense.
func (p *proxy) direct(ctx context.Context, w http.ResponseWriter, c *call) {
	pool := c.target.pool
	tries := tries{budget: c.target.budget}
	c.target.budget.earn()
	if c.target.breaker.open() {
		p.end(ctx, w, c, &tries, nil, upstream.Outcome{Kind: upstream.NotSent, Cause: outage.BreakerOpen})
		return
	}
	informed, stop := inform(ctx, w, c.req.In)
	defer stop()
	var tried []*upstream.Endpoint
	for {
		endpoint := pool.Pick(tried...)
		res, outcome, err := endpoint.Try(informed, &c.req)
		if !c.target.stores && refusesSecret(res) {
			outcome = p.strange(endpoint)
		}
		outcome, c.failure = c.judged(outcome), err
		c.ran = c.ran || mayHaveRun(outcome.Kind)
		c.target.attempts.WithLabelValues(outcome.Kind.String()).Inc()
		if err != nil {
			p.log.Debug("attempt failed", "procedure", c.req.In.URL.Path, "endpoint", endpoint,
				"attempt", tries.made+1, "cause", outcome.Cause, "error", err)
		}
		if wait, again := tries.again(decide(outcome.Kind, c), res, pool.Len()); again && !c.late(wait) && c.rewind() {
			res.Drop()
			sleep(ctx, wait) // once ctx has ended, the next attempt says why
			if !c.deadline.IsZero() {
				c.req.Header = c.req.Header.Clone() // the last attempt may not have let go yet
				contract.SetTimeout(c.req.Header, isGRPC(c.req.Header), time.Until(c.deadline))
			}
			tried = append(tried, endpoint)
			continue
		}
		stop()
		switch {
		case counts(outcome.Kind):
			if tries.made >= min(pool.Len(), maxTries) { // every endpoint failed it
				c.target.breaker.failed(outcome.Cause)
			}
		case res != nil:
			c.answered = true
		}
		p.end(ctx, w, c, &tries, res, outcome)
		return
	}
}

// end does what is left to do after the last try.
func (p *proxy) end(ctx context.Context, w http.ResponseWriter, c *call, tries *tries, res *upstream.Response, outcome upstream.Outcome) {
	end := decide(outcome.Kind, c).end()
	if end == store && (c.late(0) || !p.stores(c)) {
		end = fail
		if outcome.Kind == upstream.Unavailable {
			end = pass // the service's own words say it best
		}
	}
	if end == store && !c.ran {
		if cause, refused := c.target.pool.Refuses(&c.req); refused {
			end, outcome = fail, upstream.Outcome{Kind: upstream.Unsendable, Cause: cause}
		}
	}
	explain := func(end step) { p.explain(w, c, tries, outcome, end) }
	switch end {
	case pass:
		explain(pass)
		respond(w, c, res, func(whole bool) {
			if c.answered { // else it is counted already
				p.recorded(c, whole)
			}
		})
	case store:
		res.Drop()
		p.handOff(ctx, w, c, &outcome, explain)
	case fail:
		explain(fail)
		res.Drop()
		if outcome.Kind == upstream.Unsendable {
			c.outcome = callRefused
		}
		p.refuse(w, c, failure(outcome, c, p.stores(c) && !c.replayable()), outcome.Cause)
	case stop:
		if ctx.Err() != nil {
			leave()
		}
		// It is the request that broke off: its caller may be there.
		c.outcome = callRefused
		p.refuse(w, c, c.badBody(nil), "")
	}
}

// leave ends a call whose caller left, without an answer. net/http would make a 200
// of no answer, and a caller of HTTP/1.1 that closed its half of the connection reads.
func leave() { panic(http.ErrAbortHandler) }

// recorded takes note of how a response of the service has ended.
func (p *proxy) recorded(c *call, whole bool) {
	if !whole {
		c.target.breaker.failed("broken-answer")
		return
	}
	c.target.breaker.answered()
	p.outages.Up(c.target.route.Service, c.began)
}

// stores tells whether the call may become a task.
func (p *proxy) stores(c *call) bool {
	return p.mom != nil && c.target.stores && c.unary() && !c.asks.Direct
}

// wantsTask tells whether the caller wants a task from the start.
func wantsTask(header http.Header) bool {
	return len(header[contract.HeaderKey]) > 0 || contract.Prefer(header).Async
}

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
