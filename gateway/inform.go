package gateway

import (
	"errors"
	"maps"
	"net/http"
	"sync"

	"holdline/internal/contract"
)

// maxInformed bounds the informational responses of one call.
const maxInformed = 16

var errInformed = errors.New("too many informational responses")

// inform returns a function that passes on a service's informational responses (RFC 9110, section 15.2), such as 103 Early
// Hints, until stop is called; nil if the caller does not know such responses. stop may be called twice.
func inform(w http.ResponseWriter, r *http.Request) (informed func(code int, header http.Header) error, stop func()) {
	if !r.ProtoAtLeast(1, 1) {
		return nil, func() {} // HTTP/1.0 knows none
	}
	i := &informer{w: w}
	return i.pass, i.stop
}

// informer writes informational responses. The transport hands them over in a
// goroutine of its own, which an attempt that is given up may leave behind.
type informer struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	passed  int
	stopped bool
}

func (i *informer) pass(code int, fields http.Header) error {
	if code == http.StatusContinue {
		return nil // our server sends a 100 itself, when the body is first read
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped {
		return nil
	}
	if i.passed++; i.passed > maxInformed {
		return errInformed
	}
	header := i.w.Header()
	before := maps.Clone(header)
	cleanHop(fields)
	maps.Copy(header, fields)
	contract.Inform(i.w, code)
	clear(header) // the final response has its own
	maps.Copy(header, before)
	return nil
}

func (i *informer) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stopped = true
}
