package server

import (
	"net/http"
	"strings"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	beyond := s.ln.crowded.Load() && !s.ln.admit(connOf(r.Context()))
	if beyond || s.leaving.Load() { // to leave room for the next one, or with us
		w = &lastWriter{w}
	}
	switch {
	case r.ProtoMajor > 1:
		defer s.countStream(connOf(r.Context()))()
	case r.ContentLength != 0:
		var e *early
		e, r = newEarly(w, r)
		defer e.end()
		w = e
	}
	if beyond && !IsHealth(r) {
		contract.WriteError(w, r, contract.Errorf(momv1.Reason_REASON_SERVICE_UNAVAILABLE,
			"the server has %d connections and takes no more; this call was not executed", s.ln.most))
		return
	}
	s.handler.ServeHTTP(w, r)
}

// IsHealth tells whether a request asks for the server's health, which is told
// whatever limit is reached: a server that is merely full must not be restarted.
func IsHealth(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/")
}

// countStream counts the streams of a connection until ended is called. net/http
// keeps the limit.
func (s *Server) countStream(c *conn) (ended func()) {
	if c == nil {
		return func() {}
	}
	if c.streams.Add(1) >= int64(s.maxStreams) {
		s.once.Warn("streams", "stream limit of a connection reached", "caller", c.RemoteAddr().String(), "limit", s.maxStreams, "raise", "--max-streams")
	}
	return func() { c.streams.Add(-1) }
}
