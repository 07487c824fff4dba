package server

import (
	"context"
	"net"
	"net/http"
	"time"
)

// leaveTime is how long callers are told to go before connections are closed. One
// that closes without a word may do so just when a request comes, and no caller
// can tell whether that was read.
const leaveTime = time.Second

// leave ends the listener, so that who dials is refused and goes elsewhere, and
// has each answer say that its connection ends. It returns when nobody is
// connected any more, or after leaveTime.
func (s *Server) leave(ctx context.Context) {
	s.leaving.Store(true)
	_ = s.ln.Close()
	bounded, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.connections.Load() > 0 {
		select {
		case <-tick.C:
		case <-bounded.Done():
			return
		}
	}
}

// count keeps the number of connections.
func (s *Server) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.connections.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.connections.Add(-1)
	}
}

// lastWriter writes the last response of a connection. On HTTP/2 net/http makes a
// GOAWAY of the header, and what is under way goes on.
type lastWriter struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *lastWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.Header().Set("Connection", "close")
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *lastWriter) Write(p []byte) (int, error) {
	w.Header().Set("Connection", "close") // of no effect after WriteHeader
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher, which connect asks server streams for.
func (w *lastWriter) Flush() {
	w.Header().Set("Connection", "close") // of no effect after WriteHeader
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *lastWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
