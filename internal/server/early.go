package server

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// maxDrain is what net/http itself reads of a body that nobody wants, so that the
// connection can be used again.
const maxDrain = 256 << 10

// early is an HTTP/1.1 response together with the body of its request, which may not
// have come whole when the response goes out. Then the response says that the
// connection ends: whoever sent the rest could not tell from where on it counts as
// the next request. net/http says so only where there is no full duplex.
type early struct {
	http.ResponseWriter
	body   io.ReadCloser
	duplex bool
	whole  atomic.Bool // the body was read to its end

	reading sync.Mutex // held during a read
	over    bool       // the handler has returned
}

// newEarly returns the request with itself in place of the body; the request as it
// came is net/http's to look at. A body that net/http would wait for before it writes
// an answer makes the exchange full duplex.
func newEarly(w http.ResponseWriter, r *http.Request) (*early, *http.Request) {
	e, copied := &early{ResponseWriter: w, body: r.Body}, *r
	copied.Body = e
	if r.ContentLength < 0 || r.ContentLength > maxDrain {
		_ = e.EnableFullDuplex() // it is HTTP/1.1, which can
	}
	return e, &copied
}

// Read implements io.Reader.
func (e *early) Read(p []byte) (int, error) {
	e.reading.Lock()
	defer e.reading.Unlock()
	if e.over {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := e.body.Read(p)
	if errors.Is(err, io.EOF) {
		e.whole.Store(true)
	}
	return n, err
}

// EnableFullDuplex is for http.ResponseController.
func (e *early) EnableFullDuplex() error {
	e.duplex = true
	return http.NewResponseController(e.ResponseWriter).EnableFullDuplex()
}

// WriteHeader implements http.ResponseWriter.
func (e *early) WriteHeader(status int) {
	if status >= http.StatusOK {
		e.say()
	}
	e.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (e *early) Write(p []byte) (int, error) {
	e.say() // of no effect after WriteHeader
	return e.ResponseWriter.Write(p)
}

func (e *early) say() {
	if e.duplex && !e.whole.Load() {
		e.Header().Set("Connection", "close")
	}
}

// Flush implements http.Flusher, which connect asks server streams for.
func (e *early) Flush() { _ = e.FlushError() }

// FlushError is for http.ResponseController.
func (e *early) FlushError() error {
	e.say()
	return http.NewResponseController(e.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (e *early) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// Close implements io.Closer.
func (e *early) Close() error { return nil } // net/http closes the body itself

// end lets nobody read the body any more, once the handler has returned. A
// transport may still be reading: net/http panics when somebody reads beside it, and
// would wait without end for what a silent caller has announced.
func (e *early) end() {
	if !e.duplex || e.whole.Load() {
		return
	}
	e.say() // the handler may have written nothing
	_ = http.NewResponseController(e.ResponseWriter).SetReadDeadline(time.Unix(1, 0))
	e.reading.Lock()
	defer e.reading.Unlock()
	e.over = true
}
