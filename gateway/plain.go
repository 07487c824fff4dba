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

// plainPatience is how long the body of a plain call may come after its headers.
const plainPatience = 10 * time.Millisecond

// plainCall is what the headers of a plain call say.
type plainCall struct {
	mediaType string
	grpc      bool
	deadline  time.Time // zero: there is none
	stores    bool      // it asks to be stored from the start
	async     bool      // its caller is not held
	key       string    // empty: it has none
}

// begun is what came before serve: what servePlain has sent, a call to its service or an offer of the call to a MOM.
type begun struct {
	came            time.Time     // the call, if nothing was sent
	untold          bool          // nobody has told the schema of its service yet
	*upstream.Begun               // nil: nothing was sent
	most            time.Duration // how long servePlain waits for the response; 0: without end
	offered         bool
	id              contract.TaskID // of the offer
	key             string          // of its call
	async           bool            // the caller of the offer is not held; any other counts as held
}

// servePlain serves most calls in few steps: those of unary methods that come whole, and either ask for nothing and are answered by a
// service that is well, or ask to be stored from the start, and are. What is not so leaves this way as soon as that shows, and serve goes on:
// with the call as it came; or, when it was sent, with what was begun. So all that is decided of a call is decided there.
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
		return nil, nil // it is refused there
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
			first.Body = readWhole(r.Body) // the room for what it had is needed for the next call
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

// readWhole reads a body that has come.
func readWhole(body io.Reader) []byte {
	if all, whole := wire.Whole(body); whole {
		return all
	}
	all, _ := io.ReadAll(body) // it is in memory
	return all
}

// count takes note of a response that passed.
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
		return begun{} // it is too late, and so it is refused there
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

// answer waits for the response; nil if it does not come whole, or does not pass as it is.
func (b begun) answer(news <-chan struct{}) *wire.Response {
	if b.offered {
		return b.AnswerIf(news, b.most, isTasks)
	}
	return b.Answer(news, b.most)
}

// reads reads the headers of a call. It returns false if one of them asks for more than to send the call or to store it, or may not be sent.
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
		if *said != "" || f.Value == "" { // it is there twice, or may be
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
