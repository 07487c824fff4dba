package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/logonce"
	"holdline/internal/outage"
	"holdline/internal/reflection"
	"holdline/internal/route"
	"holdline/internal/secret"
	"holdline/internal/upstream"
)

// proxy sends calls to their services. Bytes go through untouched if the service speaks the
// caller's protocol and codec.
type proxy struct {
	targets *targets
	own     http.Handler // for everything but calls of the targets' services
	schemas *route.Schemas
	bridge  *bridge.Bridge
	learner *reflection.Learner
	limit   *limit
	varies  bool           // by CORS: the response depends on the origin of the request
	mom     *upstream.Pool // nil: nothing is stored
	secret  *secret.Secret // for the MOMs; nil without
	words   *words         // nil without MOMs
	held    atomic.Int64   // callers, at MOMs
	maxHeld int64
	// draining ends when holds are to end with handles. ending ends when the calls without an answer are to end; from then on offers last until endBy at most.
	draining, ending context.Context //nolint:containedctx // they are the gateway's life, not a call's
	endBy            atomic.Pointer[time.Time]
	log              *slog.Logger
	once             *logonce.Logger
	outages          *outage.Log
}

// ServeHTTP implements http.Handler, for callers.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.mom != nil && contract.IsOperators(r.URL.Path) {
		p.operatorsOnly(w, r)
		return
	}
	p.dispatch(w, r)
}

// dispatch sends a request to its handler. It serves calls of routed services itself, so that they do not
// pass the mux of the gateway's own services.
func (p *proxy) dispatch(w http.ResponseWriter, r *http.Request) {
	service, _, _ := route.SplitProcedure(r.URL.Path)
	target := p.targets.of(service)
	switch {
	case r.Method == http.MethodConnect:
		http.Error(w, "no tunnels here", http.StatusMethodNotAllowed)
	case target == nil:
		p.own.ServeHTTP(w, r)
	default:
		first := begun{came: time.Now()}
		method := p.schemas.Method(r.URL.Path)
		if method == nil {
			method, first.untold = p.learner.Find(service, r.URL.Path)
		}
		p.serve(w, r, target, method, first)
	}
}

// notFound answers for paths that are neither routed nor the gateway's own.
func (p *proxy) notFound(w http.ResponseWriter, r *http.Request) {
	service, _, ok := route.SplitProcedure(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	err := contract.Errorf(momv1.Reason_REASON_NO_ROUTE, "no route for service %q; gateway.v1.DirectoryService lists those there are", service)
	p.notice(err, service, "", "peer", r.RemoteAddr)
	contract.WriteError(w, r, err)
}

// noTaskNamed answers for paths below /v1/tasks that are no task's.
func noTaskNamed(w http.ResponseWriter, r *http.Request) {
	contract.WriteError(w, r, contract.Errorf(momv1.Reason_REASON_TASK_NOT_FOUND,
		"this path names no task: GET /v1/tasks/{id} and /v1/tasks/{id}/answer do"))
}

// taskNotRead answers requests at a task's address with a method other than GET and HEAD.
func taskNotRead(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "a task is read by GET; mom.v1.TaskService changes it", http.StatusMethodNotAllowed)
}

// serve is the life of one call, from its headers to the end of its response. If servePlain has begun the call, first has its state.
func (p *proxy) serve(w http.ResponseWriter, r *http.Request, target *target, method *route.Method, first begun) {
	c := p.newCall(r, target, method, first)
	defer c.cancel(context.Canceled)
	if !c.deadline.IsZero() {
		defer c.endAtDeadline(w)()
	}
	p.finish(w, c, p.forward(r.Context(), w, c))
}

// newCall is the call of a request.
func (p *proxy) newCall(r *http.Request, target *target, method *route.Method, first begun) *call {
	c := &call{in: r, target: target, method: method, began: first.came, untold: first.untold && method == nil}
	if first.Begun != nil {
		c.began = first.Came
	}
	if timeout, ok := contract.Timeout(r.Header, upstream.IsGRPC(r.Header)); ok {
		c.deadline = c.began.Add(timeout)
	}
	cleanRequest(r.Header)
	if !target.stores {
		p.introduce(r)
	}
	c.req = upstream.Received(r)
	c.req.Look, c.req.Known = c.unary(), c.known()
	switch {
	case first.Begun == nil:
	case first.offered:
		c.key, c.prefer.Async, c.held, c.req.Body = first.key, first.async, !first.async, first.Body
		offered := first // or it would be on the heap with every call
		c.offered = &offered
	default:
		c.req.Begun, c.req.Body = first.Begun, first.Body
	}
	return c
}

// forward sends the call to its service or to the MOM, unless it is refused before that.
func (p *proxy) forward(ctx context.Context, w http.ResponseWriter, c *call) verdict {
	if c.req.Begun == nil && c.offered == nil {
		if err := p.admit(w, c); err != nil {
			return refused(err)
		}
	}
	if p.stores(c) && c.wantsTask() {
		return p.handOff(ctx, c)
	}
	if c.replayable() { // nobody knows how long a stream may take
		c.req.Timeout = c.target.route().TryTimeout
	}
	tries, end := c.under(ctx)
	stop := context.AfterFunc(p.ending, func() { end(upstream.ErrEnding) })
	next, res := p.direct(tries, w, c)
	stop()
	return p.conclude(ctx, c, next, res)
}

// admit reads the body of a call. It refuses the call if the body cannot be read or the headers ask for something impossible.
func (p *proxy) admit(w http.ResponseWriter, c *call) *connect.Error {
	if err := c.readBody(w); err != nil {
		return c.badBody(err)
	}
	err := p.judge(c)
	if err != nil {
		c.discard()
	}
	return err
}

// stores tells whether the call may become a task.
func (p *proxy) stores(c *call) bool {
	return p.mom != nil && c.target.stores && c.unary() && !c.asks.Direct
}

// whyNotStored returns the reason why a call is not stored; empty if the caller knows the reason, or the call is a stream.
func (p *proxy) whyNotStored(c *call) string {
	switch {
	case p.mom == nil || !c.target.stores || c.asks.Direct:
	case c.untold:
		return "nobody has told its schema yet, so that its calls are not stored"
	case c.method == nil:
		return "no schema has the method " + c.req.URL.Path + ", so that its calls are not stored"
	case c.unary() && !c.replayable():
		return fmt.Sprintf("a message of more than %d bytes is not stored", maxReplay)
	}
	return ""
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
