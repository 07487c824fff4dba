package gateway

import (
	"net/http"
	"sync/atomic"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/logonce"
	"holdline/internal/server"
)

// limit bounds the calls that are under way, whoever makes them: a connection may carry hundreds, and each takes memory here and a
// stream to a service.
type limit struct {
	calls atomic.Int64
	most  int64
	log   *logonce.Logger
}

// enter counts a call until leave is called, also if there are too many; then it is to be refused.
func (l *limit) enter() (room bool) { return l.calls.Add(1) <= l.most }

func (l *limit) leave() { l.calls.Add(-1) }

// serve has a handler serve a call within the limit, and refuses one beyond it. Health is always told. Otherwise a gateway that is
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
