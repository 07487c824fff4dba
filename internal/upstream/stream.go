package upstream

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// maxOpening is how many bytes of a stream are kept in case the service
	// refuses the stream: more than callers send before they get an answer.
	maxOpening = 64 << 10
	// chunk is how many bytes are read from the caller at once.
	chunk = 16 << 10
)

// errLetGo ends the reads of an attempt that is over. Callers get the error of the outcome instead.
var errLetGo = fmt.Errorf("the attempt is over: %w", io.ErrUnexpectedEOF)

// Stream is a body that is sent on while the caller sends it. Until a response begins,
// an attempt that ends leaves no trace: it stops waiting for the read from the
// caller, and the next attempt may read the same bytes again. There is one
// attempt at a time.
type Stream struct {
	body  io.Reader
	unary bool // the body is one message, which is complete at its end

	mu      sync.Mutex
	head    []byte        // bytes that were read from the caller: while kept all of them, later those that the attempt has not read yet
	at      int           // how many bytes of head the attempt has read
	kept    bool          // head has the body from its first byte
	begun   bool          // there is a response: no other attempt will follow
	reading chan struct{} // closed when the read that is under way has ended; nil without one
	err     error         // the error that ended the body
}

// NewStream returns the stream of a call's body. The body of a unary call that is too
// large to be kept is sent once; any other body may be sent again while Rewind returns true.
func NewStream(body io.Reader, unary bool) *Stream {
	return &Stream{body: body, unary: unary, kept: !unary}
}

// Rewind makes the next attempt send the body from its first byte. It returns false if the first bytes
// are no longer kept.
func (s *Stream) Rewind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = 0
	return s.kept
}

// Reader returns the body for an attempt that the endpoint does not make itself. Close ends a Read that
// is under way.
func (s *Stream) Reader() io.ReadCloser {
	return &sending{Stream: s, sent: new(sent), over: make(chan struct{})}
}

// begin is called when a response has begun: no other attempt follows.
func (s *Stream) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun, s.kept = true, false
}

// fill reads from the caller; s.mu is held, and no other read is under way.
func (s *Stream) fill() {
	if !s.kept {
		s.head, s.at = s.head[:copy(s.head, s.head[s.at:])], 0
	}
	s.head = slices.Grow(s.head, chunk)
	room, ended := s.head[len(s.head):cap(s.head)], make(chan struct{})
	s.reading = ended
	go func() {
		n, err := s.body.Read(room)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.head, s.err = s.head[:len(s.head)+n], err
		s.kept = s.kept && len(s.head) <= maxOpening
		s.reading = nil
		close(ended)
	}()
}

// sending is a Stream as one attempt reads it. A read ends when the attempt or the connection is over. The
// transports themselves would end the read in neither case, and the transport of HTTP/1.1 would wait for it.
type sending struct {
	*Stream
	*sent
	bytes  int         // how many bytes were read
	broken atomic.Bool // the caller's body ended in an error
	over   chan struct{}
	once   sync.Once
}

// Read implements io.Reader.
func (s *sending) Read(p []byte) (int, error) {
	for {
		n, wait, err := s.take(p)
		if wait != nil {
			var closed chan struct{}
			if conn := s.conn.Load(); conn != nil {
				closed = conn.closed
			}
			select {
			case <-wait:
				continue
			case <-closed:
			case <-s.over:
			}
			return 0, errLetGo
		}
		if n == 0 && err == nil {
			n, err = s.body.Read(p) // no other attempt will read it
		}
		s.bytes += n
		if errors.Is(err, io.EOF) || n > 0 && !s.unary {
			s.taken.Store(true)
		}
		if errors.Is(err, io.EOF) && s.seat != nil {
			s.seat.ended(s.bytes)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			s.broken.Store(true)
		}
		return n, err
	}
}

// take reads bytes that are already there, or returns a channel to wait for. When it returns neither, from then on only this attempt
// reads the caller's body.
func (s *sending) take(p []byte) (n int, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.over:
		return 0, s.over, nil
	default:
	}
	switch {
	case s.at < len(s.head):
		n = copy(p, s.head[s.at:])
		s.at += n
		return n, nil, nil
	case s.err != nil:
		return 0, nil, s.err
	case s.begun && s.reading == nil:
		s.head, s.at = nil, 0
		return 0, nil, nil
	case s.reading == nil:
		s.fill()
	}
	return 0, s.reading, nil
}

// Close ends the attempt's reads, but leaves the caller's body open: the transport
// calls Close as soon as the service ends the stream, and the caller may still be sending
// then.
func (s *sending) Close() error {
	s.once.Do(func() { close(s.over) })
	return nil
}
