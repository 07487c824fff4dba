package gateway

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"

	"holdline/internal/contract"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

// end is how a call has ended, as the label outcome of holdline_gateway_call_duration_seconds.
type end string

const (
	endOK      end = "ok"
	endError   end = "error"   // the service answered with an error
	endBroken  end = "broken"  // its answer broke off
	endStored  end = "stored"  // the MOM has it, and answers
	endFailed  end = "failed"  // Holdline answered with an error, or ended the answer at the deadline
	endRefused end = "refused" // the call cannot be read, or asks for something impossible
	endLeft    end = "left"    // its caller left
)

// verdict is the result of a call. The caller gets the response, or else the error; a caller who has left
// gets neither.
type verdict struct {
	// end is how the call ends, as far as that does not depend on the rest of the response.
	end end
	// decided is what the Holdline-Decision header says last; empty: there is no such header.
	decided string
	res     *upstream.Response
	err     *connect.Error
	header  http.Header // of the error
	cause   string      // of the error, for the log
	facts   []any       // more attributes for the log
}

// The decisions about a call: the service's response passes on, or the MOM has the call, or the call fails.
const (
	decidedPass  = "passed"
	decidedStore = "stored"
	decidedFail  = "failed"
)

// refused is the verdict on a call that cannot be read, or that asks for something impossible.
func refused(err *connect.Error) verdict { return verdict{end: endRefused, err: err} }

// finish ends every call: it sends the caller the response or the error of the verdict, reports to the breaker how
// the service's answer ended, and counts the call in the metrics.
func (p *proxy) finish(w http.ResponseWriter, c *call, v verdict) {
	if v.decided != "" && c.asks.Explain {
		w.Header().Set(contract.HeaderDecision, c.explain(v.decided))
	}
	abort := false
	switch {
	case v.res != nil:
		var by ender
		by, abort = respond(w, c, v.res)
		v.end = v.endBy(by, c.ended)
		answered := v.decided == decidedPass && !counts(c.tries.last.Kind) // outcomes that count were reported to the breaker before
		switch {
		case answered && by == byNobody:
			c.target.breaker.answered()
			p.outages.Up(c.target.service, c.began)
		case answered && by == byService && p.ending.Err() == nil: // otherwise we may have ended the answer ourselves
			c.target.breaker.failed("broken-answer")
		}
	case v.err != nil:
		maps.Copy(w.Header(), v.header)
		p.notice(v.err, c.target.service, v.cause, append(v.facts, "procedure", c.req.URL.Path)...)
		contract.WriteError(w, c.in, v.err)
	default:
		abort = true
	}
	if c.held {
		p.release(c.target)
	}
	c.target.calls.WithLabelValues(string(v.end)).Observe(time.Since(c.began).Seconds())
	if abort {
		// If we returned, net/http would end the response as if it were whole, and would write a 200 where there is
		// no response. A caller of HTTP/1.1 that has closed its half of the connection would read that.
		panic(http.ErrAbortHandler)
	}
}

// endBy returns how a call has ended. by is who ended its response; whole is how a response ended that came whole.
func (v *verdict) endBy(by ender, whole end) end {
	switch {
	case by == byService:
		return endBroken
	case by == byDeadline:
		return endFailed
	case by == byNobody && v.decided == decidedPass:
		return whole
	}
	return v.end
}

// endOf returns whether a response is an answer or an error, as far as this shows without decoding: the
// errors of gRPC-Web and of Connect streams are in the bodies, so endOf does not see them.
func endOf(res *http.Response) end {
	status := cmp.Or(res.Header.Get("Grpc-Status"), res.Trailer.Get("Grpc-Status"), "0")
	if res.StatusCode >= http.StatusBadRequest || status != "0" {
		return endError
	}
	return endOK
}

// explain returns the value of Holdline-Decision, for a caller who asks for it: what was done with the call, such as
// "direct;try=2;dial-refused → stored;breaker=open".
func (c *call) explain(decided string) string {
	if c.tries != nil {
		tries := fmt.Sprintf("direct;try=%d", c.tries.made)
		if c.tries.last.Cause != "" {
			tries += ";" + c.tries.last.Cause
		}
		if c.tries.bridge != "" {
			tries += ";bridge=" + c.tries.bridge
		}
		decided = tries + " → " + decided
	}
	if c.target.breaker.open() {
		decided += ";breaker=open"
	}
	return decided
}

// notice logs an error of the gateway's own if an operator should know of it, the same
// error once per interval. The cause is that of the last attempt, or empty.
func (p *proxy) notice(err *connect.Error, service, cause string, attrs ...any) {
	if n, ok := contract.NoticeOf(err, service); ok {
		if cause != "" {
			attrs = append([]any{"cause", cause}, attrs...)
		}
		attrs = append([]any{"reason", n.Reason, "service", service}, attrs...)
		p.once.Log(n.Level, n.Key+" "+cause, n.Message, append(attrs, "error", err.Message())...)
	}
}

// unwritten logs an error that a caller gets from the bridge.
func (p *proxy) unwritten(method *route.Method, err *connect.Error) {
	p.notice(err, method.Service(), "", "procedure", method.Procedure)
}
