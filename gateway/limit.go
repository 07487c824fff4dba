package gateway

import (
	"net/http"
	"sync/atomic"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/logonce"
	"holdline/internal/server"
)

// limitCalls refuses calls while the maximum number is under way, whoever makes them: a
// connection may carry hundreds, and each takes memory here and a stream to a
// service. Health is always told. Otherwise a gateway that is merely busy would be restarted.
func limitCalls(next http.Handler, most int, log *logonce.Logger) http.Handler {
	var calls atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer calls.Add(-1)
		if calls.Add(1) > int64(most) && !server.IsHealth(r) {
			log.Warn("calls", "limit of calls under way reached", "limit", most, "raise", "--max-calls")
			contract.WriteError(w, r, contract.Errorf(momv1.Reason_REASON_SERVICE_UNAVAILABLE,
				"the gateway has %d calls under way and takes no more; this one was not executed", most))
			return
		}
		next.ServeHTTP(w, r)
	})
}
