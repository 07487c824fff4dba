package gateway

import (
	"context"
	"net/http"
	"slices"
	"time"

	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/outage"
	"holdline/internal/server"
	"holdline/internal/upstream"
)

// direct sends the call to its service, and tries again where the table allows that. It returns the step that follows
// the last try, and the response of that try, if there is one.
func (p *proxy) direct(ctx context.Context, w http.ResponseWriter, c *call) (step, *upstream.Response) {
	pool := c.target.pool
	c.tries = &tries{budget: c.target.budget}
	begun := c.req.Begun
	if begun == nil {
		c.target.budget.earn()
		cause := ""
		switch {
		case p.ending.Err() != nil:
			cause = upstream.GatewayEnds
		case c.target.breaker.open():
			cause = outage.BreakerOpen
		}
		if cause != "" {
			c.tries.last = upstream.Outcome{Kind: upstream.NotSent, Cause: cause}
			return decide(upstream.NotSent, c).final(), nil
		}
	}
	informed, stop := inform(w, c.in)
	defer stop()
	c.req.Informed = informed
	var tried []*upstream.Endpoint
	for {
		endpoint := pool.Pick(tried...)
		if len(tried) == 0 && begun != nil {
			endpoint = begun.Endpoint()
		}
		res := p.try(ctx, c, endpoint)
		next := decide(c.tries.last.Kind, c)
		wait, again := c.tries.again(next, res, pool.Len())
		if !again || c.late(wait) || p.ending.Err() != nil || !c.rewind() {
			return next.final(), res
		}
		res.Drop()
		sleep(ctx, wait) // if ctx ends meanwhile, the next attempt returns the reason
		c.setTimeout()
		tried = append(tried, endpoint)
	}
}

// setTimeout writes what is left of the caller's time into the header.
func (c *call) setTimeout() {
	if !c.deadline.IsZero() {
		c.req.Header = c.req.Header.Clone() // the last attempt may still read it
		contract.SetTimeout(c.req.Header, upstream.IsGRPC(c.req.Header), time.Until(c.deadline))
	}
}

// try makes one attempt, and records its outcome.
func (p *proxy) try(ctx context.Context, c *call, endpoint *upstream.Endpoint) *upstream.Response {
	res, outcome, err := p.send(ctx, c, endpoint)
	switch {
	case c.target.stores || res == nil:
	case refusesSecret(res):
		// The MOM has not looked at the call, and another MOM may take it.
		warnSecret(p.once, endpoint)
		outcome = upstream.Outcome{Kind: upstream.Refused, Cause: secretRefused}
	case c.method == readTask && res.Header.Get(contract.HeaderTask) != "":
		outcome = upstream.Outcome{} // an error here is the task's result, not a failure of the MOM
	}
	outcome = c.judged(ctx, outcome, err)
	c.tries.last, c.tries.err = outcome, err
	c.ran = c.ran || mayHaveRun(outcome.Kind)
	c.target.attempts.WithLabelValues(outcome.Kind.String()).Inc()
	if err != nil {
		p.log.Debug("attempt failed", "procedure", c.req.URL.Path, "endpoint", endpoint,
			"attempt", c.tries.made+1, "cause", outcome.Cause, "error", err)
	}
	return res
}

// send sends the call to an endpoint as its caller wrote it, or else across the bridge, in the first of the
// other protocols that the endpoint understands. An endpoint that does not understand a protocol has run
// nothing, so all of this is one try.
func (p *proxy) send(ctx context.Context, c *call, endpoint *upstream.Endpoint) (res *upstream.Response, outcome upstream.Outcome, err error) {
	c.tries.bridge = ""
	_, refused := c.target.pool.Refuses(&c.req)
	refused = refused && c.req.Begun == nil
	caller, crosses := c.crosses(refused)
	if !crosses {
		res, outcome, err = endpoint.Try(ctx, &c.req)
		if caller, crosses = c.crosses(outcome.Foreign()); !crosses {
			return res, outcome, err
		}
	}
	ways := caller.Ways(c.target.pool, !c.unary())
	if c.unary() && !c.req.Ordinary() && p.bridge.Speaks(caller) { // the service may not understand the compression, the parameters or the GET; the bridge sends the call without them
		ways = slices.Insert(slices.Clone(ways), 1+slices.Index(ways, caller), caller)
	}
	asCame := false // the call was tried as its caller wrote it
	bridge.Speak(ways, func(way bridge.Speech, less bool) bridge.Heard {
		now := way == caller && !asCame
		asCame = asCame || now
		if now && !refused {
			return bridge.Foreign // the call was just tried so, above
		}
		if !c.rewind() {
			return bridge.Understood // there is nothing left to be tried
		}
		res.Drop()
		c.setTimeout()
		if now {
			c.tries.bridge = ""
			res, outcome, err = endpoint.Try(ctx, &c.req)
		} else {
			c.tries.bridge = way.Protocol
			newer := less && p.newer(c)
			res, outcome, err = p.bridge.Try(ctx, endpoint, c.method, &c.req, way, less && !newer)
			if newer && outcome.Cause == bridge.LossyMessage {
				res, outcome, err = p.bridge.Try(ctx, endpoint, c.method, &c.req, way, less)
			}
		}
		switch {
		case outcome.Foreign():
			return bridge.Foreign
		case outcome.Cause == bridge.LossyMessage:
			return bridge.Lossy
		}
		return bridge.Understood
	})
	return res, outcome, err
}

// newer asks the service for its schema, once for each call, before the bridge leaves out fields of a message that the known schema lacks.
// It tells whether there is now another schema of the method.
func (p *proxy) newer(c *call) bool {
	if c.confirmed {
		return false
	}
	c.confirmed = true
	p.learner.Confirm(c.target.service)
	now := p.schemas.Method(c.req.URL.Path)
	if now == nil || now == c.method || !now.Unary {
		return false
	}
	c.method = now
	return true
}

// crosses returns the caller's protocol and codec, and whether the bridge can translate the call. It can only be translated if the service has not understood it.
func (c *call) crosses(misunderstood bool) (bridge.Speech, bool) {
	if !misunderstood || !c.known() && !c.replayable() || !c.target.stores {
		return bridge.Speech{}, false
	}
	mediaType, _ := c.req.Written()
	return bridge.SpeechOf(mediaType)
}

// lost tells whether no endpoint understands the call, in whatever protocol it is sent, and the cause. Storing such
// a call would be of no use.
func (c *call) lost() (cause string, lost bool) {
	cause, lost = c.target.pool.Refuses(&c.req)
	_, crosses := c.crosses(lost)
	return cause, lost && !crosses
}

// conclude takes the step that follows the last try. It reports a call that every endpoint failed to the breaker
// here, and not in finish: after a hand-off the caller may be held for long.
func (p *proxy) conclude(ctx context.Context, c *call, next step, res *upstream.Response) verdict {
	last := &c.tries.last
	if last.Cause == upstream.NoDescriptors { // this is not the service's fault, so it is not logged as an outage
		p.once.Warn("descriptors", "no file descriptors left for connections to services: their calls are stored or refused", "raise", server.MoreDescriptors)
	}
	if counts(last.Kind) && !last.Ours() && c.tries.made >= min(c.target.pool.Len(), maxTries) {
		c.target.breaker.failed(last.Cause)
		p.learner.Doubt(c.target.service) // it may come back with another schema, before the breaker opens
	}
	if next == store && (c.late(0) || !p.stores(c)) {
		next = fail
		if last.Kind == upstream.Unavailable {
			next = pass // the service's own error explains it best
		}
	}
	if next == store && !c.ran {
		if cause, lost := c.lost(); lost {
			next, *last = fail, upstream.Outcome{Kind: upstream.Unsendable, Cause: cause}
		}
	}
	switch {
	case next == pass && last.Cause == bridge.Unwritten:
		c.target.breaker.answered()
		return verdict{end: endFailed, decided: decidedFail, res: res}
	case next == pass:
		return verdict{end: endLeft, decided: decidedPass, res: res}
	case next == fail && last.Cause == bridge.Malformed:
		return verdict{end: endRefused, decided: decidedFail, res: res}
	}
	res.Drop()
	switch {
	case next == store:
		return p.handOff(ctx, c)
	case next == fail:
		v := verdict{end: endFailed, decided: decidedFail, err: failure(*last, c, p.whyNotStored(c)), cause: last.Cause}
		if last.Kind == upstream.Unsendable {
			v.end = endRefused
		}
		return v
	case ctx.Err() != nil:
		return verdict{end: endLeft}
	}
	return refused(c.badBody(nil)) // the request broke off, and its caller may still read an answer
}
