package server

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"holdline/internal/wire"
)

// maxDrain is how many bytes of an unread body net/http reads at most, so that the connection can be used
// again.
const maxDrain = 256 << 10

// early is the body of a request over HTTP/1.1, whose response may go out before the whole body has come. Such a response has
// Connection: close, since a caller that went on sending could not know which bytes we take for its next request. In full duplex, net/http does not
// write this header itself.
type early struct {
	response http.ResponseWriter
	request  http.Request // reads its body through this
	body     io.ReadCloser
	duplex   bool
	whole    atomic.Bool // the body was read to its end

	reading sync.Mutex // held during a read
	over    bool       // the handler has returned
}

// newEarly returns the body, and a copy of the request that reads it. The original
// request must not change, because net/http looks at its body. If the body is larger than maxDrain or of
// unknown length, the exchange is full duplex: otherwise net/http would wait for the body before it answers.
func newEarly(w *lastWriter, r *http.Request) (*early, *http.Request) {
	e := &early{response: w.ResponseWriter, request: *r, body: r.Body}
	e.request.Body, w.body = e, e
	if r.ContentLength < 0 || r.ContentLength > maxDrain {
		_ = w.EnableFullDuplex() // no error: HTTP/1.1 supports it
	}
	return e, &e.request
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

// Whole is for wire.Whole.
func (e *early) Whole() ([]byte, bool) {
	body, ok := wire.Whole(e.body)
	if ok {
		e.whole.Store(true)
	}
	return body, ok
}

// Close implements io.Closer.
func (e *early) Close() error { return nil } // net/http closes the body itself

// cutShort tells whether a response that goes out now leaves a part of the body unread. e may be nil.
func (e *early) cutShort() bool { return e != nil && e.duplex && !e.whole.Load() }

// end is called when the handler has returned, and ends all reading of the body. A transport may still read
// it: net/http would panic if it read at the same time, and would wait forever for a caller that announced a
// body and does not send it.
func (e *early) end() {
	if !e.cutShort() {
		return
	}
	_ = http.NewResponseController(e.response).SetReadDeadline(time.Unix(1, 0))
	e.reading.Lock()
	defer e.reading.Unlock()
	e.over = true
}
