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
	var last *lastWriter // always over HTTP/1.1; over HTTP/2, GOAWAY announces the end, too
	if beyond || r.ProtoMajor == 1 || s.leaving.Load() {
		last = &lastWriter{ResponseWriter: w, beyond: beyond, leaving: &s.leaving}
		defer last.say() // the handler may write nothing
		w = last
	}
	handler, begun := s.handler, false
	switch {
	case r.ProtoMajor > 1 && s.own == nil:
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") { // write no Content-Length for an error: nginx takes a response of length 0 as ended before its trailers
			w.Header()["Content-Length"] = nil
		}
		defer s.countStream(connOf(r.Context()))()
	case r.ProtoMajor > 1:
	default:
		if h := callerOf(r.Context()).Begun(); h != nil {
			handler, begun = h, true
		}
		if r.ContentLength != 0 {
			var e *early
			e, r = newEarly(last, r)
			defer e.end()
		}
	}
	if beyond && !begun && !IsHealth(r) {
		contract.WriteError(w, r, contract.Errorf(momv1.Reason_REASON_SERVICE_UNAVAILABLE,
			"the server has %d connections and takes no more; this call was not executed", s.ln.most))
		return
	}
	if c := connOf(r.Context()); c != nil && !r.ProtoAtLeast(1, 1) { // nginx speaks HTTP/1.0 by default
		whole := false
		defer func() {
			if !whole { // the handler has panicked, and an orderly end, also one of TLS, would be the end of the response
				c.reset()
			}
		}()
		handler.ServeHTTP(w, r)
		whole = true
		return
	}
	handler.ServeHTTP(w, r)
}

// IsHealth tells whether a request is a health check. Health checks are answered at every limit, because a
// server that is only full must not be restarted.
func IsHealth(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/")
}

// countStream counts a stream of a connection until ended is called, and warns at the limit, which net/http enforces.
func (s *Server) countStream(c *conn) (ended func()) {
	if c == nil {
		return func() {}
	}
	if c.streams.Add(1) >= int64(s.maxStreams) {
		s.warnStreams(c.RemoteAddr().String())
	}
	return func() { c.streams.Add(-1) }
}

func (s *Server) warnStreams(caller string) {
	s.once.Warn("streams", "stream limit of a connection reached", "caller", caller, "limit", s.maxStreams, "raise", "--max-streams")
}
