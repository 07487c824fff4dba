package server

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"holdline/internal/wire"
)

// leaveTime is how long we ask callers to close their connections before we do it. If we closed a connection
// without notice, a request could arrive at that moment, and its caller could not know whether we read it.
const leaveTime = time.Second

// leave closes the listener, so that new connections are refused and their callers go to another server.
// From then on, each answer says that its connection ends. leave returns when no connection is left, or
// after leaveTime.
func (s *Server) leave(ctx context.Context) {
	s.leaving.Store(true)
	_ = s.ln.Close()
	bounded, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	await(bounded, s.empty)
}

// await waits until so returns true, or ctx ends.
func await(ctx context.Context, so func() bool) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// empty tells whether there are no connections.
func (s *Server) empty() bool {
	if s.own != nil {
		return s.own.h1.Open() == 0
	}
	return s.connections.Load() == 0
}

// count implements http.Server.ConnState. It counts connections if net/http serves all of them.
func (s *Server) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.connections.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.connections.Add(-1)
	}
}

// lastWriter writes a response that may be the last response of its connection. Then it adds Connection: close. On HTTP/2, net/http sends GOAWAY instead of this
// header, and the calls in flight go on.
type lastWriter struct {
	http.ResponseWriter
	beyond  bool         // the connection is beyond the limit
	leaving *atomic.Bool // the server ends
	body    *early       // of a request over HTTP/1.1; nil if it has none
}

// say adds Connection: close if this is the last response. This has no effect once the header is written.
func (w *lastWriter) say() {
	if w.beyond || w.leaving.Load() || w.body.cutShort() {
		w.Header().Set("Connection", "close")
	}
}

// EnableFullDuplex is for http.ResponseController.
func (w *lastWriter) EnableFullDuplex() error {
	if w.body != nil {
		w.body.duplex = true
	}
	return http.NewResponseController(w.ResponseWriter).EnableFullDuplex()
}

// SetHeader is for wire.SetHeader.
func (w *lastWriter) SetHeader(header http.Header) bool {
	return wire.SetHeader(w.ResponseWriter, header)
}

// WriteHeader implements http.ResponseWriter.
func (w *lastWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.say()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *lastWriter) Write(p []byte) (int, error) {
	w.say()
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher, which connect needs for server streams.
func (w *lastWriter) Flush() { _ = w.FlushError() }

// FlushError is for http.ResponseController.
func (w *lastWriter) FlushError() error {
	w.say()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *lastWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
