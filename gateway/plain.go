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

// servePlain serves most calls in few steps: those of unary methods that come whole, ask for nothing, and are answered by a
// service that is well. What is not so leaves this way as soon as that shows, and serve goes on: with the call as it came; or, when
// the request was sent, with the attempt that was begun. So all that is decided of a call is decided there.
func (p *proxy) servePlain(req *wire.Request) (*wire.Response, http.Handler) {
	came := time.Now()
	service, _, _ := route.SplitProcedure(req.Path)
	target, method := p.targets.of(service), p.schemas.Method(req.Path)
	if target == nil || !target.stores || method == nil || !method.Unary || target.breaker.open() {
		return nil, nil
	}
	mediaType, timeout, ok := reads(req)
	if !ok {
		return nil, nil
	}
	if !p.limit.enter() {
		p.limit.leave()
		return nil, nil // it is refused there
	}
	begun := target.beginPlain(req, mediaType, came)
	if begun == nil {
		p.limit.leave()
		return nil, nil
	}
	most, until := target.route().TryTimeout, time.Time{}
	if timeout > 0 {
		left := max(timeout-time.Since(came), 1)
		most, until = min(cmp.Or(most, left), left), came.Add(timeout+deadlineGrace+lastWords)
	}
	res := begun.Answer(req.Caller.News(), most)
	if res == nil {
		return nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer p.limit.leave()
			_, _ = io.Copy(io.Discard, r.Body) // begun has it, and net/http does not look whether the caller leaves before it was read
			if p.varies {
				w.Header().Set("Vary", "Origin")
			}
			p.serve(w, r, target, method, begun)
		})
	}
	p.limit.leave()
	res.Header, res.Trailers, res.Until = withoutHop(res.Header), withoutHop(res.Trailers), until
	if p.varies {
		res.Header = append([]hpack.HeaderField{{Name: "vary", Value: "Origin"}}, res.Header...)
	}
	target.answered.Inc()
	target.breaker.answered()
	p.outages.Up(service, came)
	ended := target.ok
	if begun.Failed {
		ended = target.calls.WithLabelValues(string(endError))
	}
	ended.Observe(time.Since(came).Seconds())
	return res, nil
}

// beginPlain sends a plain call; nil when nothing was sent.
func (t *target) beginPlain(req *wire.Request, mediaType string, came time.Time) *upstream.Begun {
	body, ok := req.Caller.Body(plainPatience)
	if !ok {
		return nil
	}
	req.Body = body
	begun := t.pool.Pick().Begin(req, mediaType, came)
	if begun != nil {
		t.budget.earn()
	}
	return begun
}

// reads reads the headers of a call: its media type, and the time that its caller gives it, where 0 is without end. It returns false if one
// of them asks for more than to send the call, or may not be sent.
func reads(req *wire.Request) (mediaType string, timeout time.Duration, ok bool) {
	var inConnect, inGRPC, trailers string
	size := 0
	for _, f := range req.Header {
		said := &mediaType
		switch size += int(f.Size()); f.Name {
		case "content-type":
		case "te":
			if f.Value != "trailers" {
				return "", 0, false
			}
			said = &trailers
		case "connect-timeout-ms":
			said = &inConnect
		case "grpc-timeout":
			said = &inGRPC
		case "idempotency-key", "x-idempotency-key", "prefer", "expect", "origin", "host":
			return "", 0, false
		default:
			if isHop(f.Name) || strings.HasPrefix(f.Name, "holdline-") {
				return "", 0, false
			}
			continue
		}
		if *said != "" || f.Value == "" { // it is there twice, or may be
			return "", 0, false
		}
		*said = f.Value
	}
	said, grpc := inConnect, false
	switch mediaType {
	case "application/grpc", "application/grpc+proto":
		said, grpc = inGRPC, true
	case "application/json", "application/proto":
	default:
		return "", 0, false
	}
	if said != "" {
		timeout, ok = contract.ParseTimeout(said, grpc)
		if !ok || timeout <= 0 {
			return "", 0, false
		}
	}
	return mediaType, timeout, req.Authority != "" && size <= upstream.LargeHeaders
}
