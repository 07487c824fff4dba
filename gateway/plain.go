package gateway

import (
	"cmp"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2/hpack"

	"holdline/internal/contract"
	"holdline/internal/route"
	"holdline/internal/upstream"
	"holdline/internal/wire"
)

// plainPatience is how much later than its headers the body of a plain call may come.
const plainPatience = 10 * time.Millisecond

// plainCall has the values of a plain call's headers.
type plainCall struct {
	mediaType string
	grpc      bool
	deadline  time.Time // zero: there is none
	stores    bool      // it asks to be stored from the start
	async     bool      // its caller is not held
	key       string    // empty: it has none
}

// begun is what servePlain has done before serve goes on with a call: it may have sent the call to its service, or offered it to a MOM.
type begun struct {
	came            time.Time     // when the call came, if nothing was sent
	untold          bool          // the schema of its service is not known yet
	*upstream.Begun               // nil: nothing was sent
	most            time.Duration // how long servePlain waits for the response; 0: without end
	offered         bool
	id              contract.TaskID // of the offer
	key             string          // of its call
	async           bool            // the caller of the offer is not held; without async the caller counts as held
}

// servePlain serves most calls in few steps: calls of unary methods that arrive whole, and either have no special headers and are answered by a
// healthy service, or ask to be stored from the start and are stored. As soon as a call turns out to be different, serve goes on with it:
// with the call as it came; or, if something was sent already, with what was begun. So only serve decides what happens to a call.
func (p *proxy) servePlain(req *wire.Request) (*wire.Response, http.Handler) {
	came := time.Now()
	service, _, _ := route.SplitProcedure(req.Path)
	target, method := p.targets.of(service), p.schemas.Method(req.Path)
	if target == nil || !target.stores || method == nil || !method.Unary {
		return nil, nil
	}
	call, ok := reads(req, came)
	if !ok || !call.stores && target.breaker.open() {
		return nil, nil
	}
	if !p.limit.enter() {
		p.limit.leave()
		return nil, nil // serve refuses the call
	}
	first := p.begin(req, target, call, came)
	if first.Begun == nil {
		p.limit.leave()
		return nil, nil
	}
	res := first.answer(req.Caller.News())
	if res == nil {
		return nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer p.limit.leave()
			first.Body = readWhole(r.Body) // the next call of the connection uses the buffer that the body was in
			if p.varies {
				w.Header().Set("Vary", "Origin")
			}
			p.serve(w, r, target, method, first)
		})
	}
	p.limit.leave()
	res.Header, res.Trailers = withoutHop(res.Header), withoutHop(res.Trailers)
	if !call.deadline.IsZero() {
		res.Until = call.deadline.Add(deadlineGrace + lastWords)
	}
	if p.varies {
		res.Header = append([]hpack.HeaderField{{Name: "vary", Value: "Origin"}}, res.Header...)
	}
	p.count(target, first)
	return res, nil
}

// readWhole reads a body that has already come.
func readWhole(body io.Reader) []byte {
	if all, whole := wire.Whole(body); whole {
		return all
	}
	all, _ := io.ReadAll(body) // no error: the body is in memory
	return all
}

// count counts a call whose response passed on as it was.
func (p *proxy) count(target *target, first begun) {
	ended := target.ok
	if first.offered {
		ended = target.stored
		if !first.async {
			p.release(target)
		}
	} else {
		target.answered.Inc()
		target.breaker.answered()
		p.outages.Up(target.service, first.Came)
		if first.Failed {
			ended = target.calls.WithLabelValues(string(endError))
		}
	}
	ended.Observe(time.Since(first.Came).Seconds())
}

// begin sends a plain call to its service, or offers it to a MOM.
func (p *proxy) begin(req *wire.Request, target *target, call plainCall, came time.Time) (first begun) {
	body, ok := req.Caller.Body(plainPatience)
	if !ok {
		return begun{}
	}
	if !call.deadline.IsZero() && time.Until(call.deadline) <= 0 {
		return begun{} // the deadline is over, so serve refuses the call
	}
	req.Body = body
	if call.stores {
		return p.beginOffer(req, target, call, came)
	}
	first.most = target.route().TryTimeout
	if !call.deadline.IsZero() {
		left := max(time.Until(call.deadline), 1)
		first.most = min(cmp.Or(first.most, left), left)
	}
	first.Begun = target.pool.Pick().Begin(req, call.mediaType, came)
	if first.Begun != nil {
		target.budget.earn()
	}
	return first
}

// answer waits for the response. It returns nil if the response does not come whole, or may not pass on as it is.
func (b begun) answer(news <-chan struct{}) *wire.Response {
	if b.offered {
		return b.AnswerIf(news, b.most, isTasks)
	}
	return b.Answer(news, b.most)
}

// reads reads the headers of a call. It returns false if a header asks for something other than to send the call or to store it, or may not be sent.
func reads(req *wire.Request, came time.Time) (call plainCall, ok bool) {
	var inConnect, inGRPC, prefer, key, ttl, answerTTL, trailers string
	size, encoded := 0, false
	for _, f := range req.Header {
		said := &call.mediaType
		switch size += int(f.Size()); f.Name {
		case "content-type":
		case "te":
			if f.Value != "trailers" {
				return call, false
			}
			said = &trailers
		case "connect-timeout-ms":
			said = &inConnect
		case "grpc-timeout":
			said = &inGRPC
		case "prefer":
			said = &prefer
		case "idempotency-key":
			said = &key
		case "holdline-ttl":
			said = &ttl
		case "holdline-answer-ttl":
			said = &answerTTL
		case "content-encoding", "grpc-encoding":
			encoded = true
			continue
		case "x-idempotency-key", "expect", "origin", "host":
			return call, false
		default:
			if isHop(f.Name) || strings.HasPrefix(f.Name, "holdline-") {
				return call, false
			}
			continue
		}
		if *said != "" || f.Value == "" { // the header is there twice, or may be
			return call, false
		}
		*said = f.Value
	}
	timeout := inConnect
	switch call.mediaType {
	case "application/grpc", "application/grpc+proto":
		timeout, call.grpc = inGRPC, true
	case "application/json", "application/proto":
	default:
		return call, false
	}
	if timeout != "" {
		left, ok := contract.ParseTimeout(timeout, call.grpc)
		if !ok || left <= 0 {
			return call, false
		}
		call.deadline = came.Add(left)
	}
	call.stores, call.async, call.key = prefer+key != "", prefer != "", contract.ParseKey(key)
	switch {
	case call.async && prefer != "respond-async":
		return call, false
	case call.stores && encoded: // a MOM does not read every encoding
		return call, false
	case key != "" && call.key == "":
		return call, false
	}
	if ttl != "" && !contract.IsTTL(ttl) || answerTTL != "" && !contract.IsTTL(answerTTL) {
		return call, false
	}
	return call, req.Authority != "" && size <= upstream.LargeHeaders
}
