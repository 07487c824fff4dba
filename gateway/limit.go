package gateway

import (
	"net/http"
	"sync/atomic"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/logonce"
	"holdline/internal/server"
)

// limit bounds the calls that are under way, from all callers together: a connection may carry hundreds of calls, and each takes memory here and a
// stream to a service.
type limit struct {
	calls atomic.Int64
	most  int64
	log   *logonce.Logger
}

// enter counts a call until leave is called. It returns false if there are too many calls: then the call must be refused, and leave must be called all the same.
func (l *limit) enter() (room bool) { return l.calls.Add(1) <= l.most }

func (l *limit) leave() { l.calls.Add(-1) }

// serve has a handler serve each call within the limit, and refuses calls beyond it. Health checks are always answered. Otherwise a gateway that is
// merely busy would be restarted.
func (l *limit) serve(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer l.leave()
		if !l.enter() && !server.IsHealth(r) {
			l.log.Warn("calls", "limit of calls under way reached", "limit", l.most, "raise", "--max-calls")
			contract.WriteError(w, r, contract.Errorf(momv1.Reason_REASON_SERVICE_UNAVAILABLE,
				"the gateway has %d calls under way and takes no more; this one was not executed", l.most))
			return
		}
		next.ServeHTTP(w, r)
	})
}
