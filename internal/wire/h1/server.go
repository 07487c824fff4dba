package h1

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"holdline/internal/wire"
)

// Server serves the plain requests of connections over HTTP/1.1, as plain calls or by a handler. All else is left to net/http: a Caller is a net.Conn from which
// only that can be read. The timeouts are required. It is safe for concurrent use.
type Server struct {
	// Plain, if not nil, is offered the plain calls.
	Plain func(*wire.Request) (*wire.Response, http.Handler)
	// Handler, if not nil, serves those that are not answered so, as net/http would have it serve them. Context, if not nil, is what their contexts are made of.
	Handler http.Handler
	Context func(*Caller) context.Context
	Log     *slog.Logger // of handlers that panic; nil: nobody is told
	// Last, if not nil, tells whether each response is the last one of its connection, as after Shutdown.
	Last func() bool
	// HeaderTimeout is how long a client may take for the first bytes.
	HeaderTimeout time.Duration
	// IdleTimeout is after how long a connection without calls is closed. It may be a sixteenth less.
	IdleTimeout time.Duration

	leaving atomic.Bool
	ending  atomic.Bool
	mu      sync.Mutex
	callers map[*Caller]struct{}
}

// watchPause is the time between two looks whether the caller of a plain call is still there.
const watchPause = 50 * time.Millisecond

// maxBreaks is how many bytes of line breaks may follow a POST before the next request. Some old clients write them (RFC 9112, section 2.2), and
// net/http ignores as many.
const maxBreaks = 4

var errLeft = errors.New("http1: the server ends")

// state is what a connection does.
type state = int32

const (
	elsewhere state = iota // net/http has it, or HTTP/2 is spoken
	idle                   // the next request is awaited
	busy                   // with a plain call
	leaving                // likewise, and it ends with that
	closed
)

// Caller is a client's connection. Between two requests of net/http, its Read serves plain calls.
type Caller struct {
	net.Conn
	server *Server
	peeker *wire.Peeker // nil over TLS, which may have something that was read and decrypted
	state  atomic.Int32
	in     buffer
	out    []byte
	wake   time.Time // when a Read ends without anything, as far as we have said
	late   time.Time // when a Write does
	begun  http.Handler
	// offered: the request that was left unread last was offered as a plain call, and its handler has not begun.
	offered atomic.Bool
	plain   bool // the next Read awaits a request
	room    int  // of a Read of net/http when it has no bytes left from the one before; 0: there was none
	*turn        // of the plain call; nil before the first, so that connections over HTTP/2 do without
}

// turn is what a plain call needs, and the next one on its connection.
type turn struct {
	head  head
	req   wire.Request
	n     int // bytes of the head
	news  chan struct{}
	watch *time.Timer

	// For handlers.
	base     context.Context //nolint:containedctx // of the connection's calls
	remote   string          // address
	watching sync.Mutex
	gone     context.CancelFunc // of a call; nil without one
	pause    time.Duration      // until the next look
	looker   *wire.Peeker
}

// Meet returns the caller of a connection. It has to be closed.
func (s *Server) Meet(c net.Conn) *Caller {
	caller := &Caller{Conn: c, server: s}
	if caller.Secure() == nil {
		caller.peeker = wire.NewPeeker(c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.callers == nil {
		s.callers = map[*Caller]struct{}{}
	}
	s.callers[caller] = struct{}{}
	return caller
}

// Open is how many callers have not been closed.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.callers)
}

// Shutdown closes connections without calls, and those with plain calls when these end. It does not wait for that, and leaves to
// net/http those that it has.
func (s *Server) Shutdown() {
	s.leaving.Store(true)
	for _, c := range s.all() {
		_ = c.leave(false)
	}
}

// End has a handler get all plain calls that have no answer: those who answer them hear that there is news of their callers, and wait for nothing else.
func (s *Server) End() { s.ending.Store(true) }

// Busy tells whether there is a call that a server which ends has to wait for before net/http ends: a plain call, or one that was offered as such and has
// not come to net/http's handler yet. net/http takes the connection of either for one without a call.
func (s *Server) Busy() bool {
	return slices.ContainsFunc(s.all(), func(c *Caller) bool {
		state := c.state.Load()
		return state == busy || state == leaving || c.offered.Load()
	})
}

// Cut closes all connections at once.
func (s *Server) Cut() {
	for _, c := range s.all() {
		_ = c.end()
	}
}

func (s *Server) all() (all []*Caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.callers {
		all = append(all, c)
	}
	return all
}

// Secure is the connection's TLS; nil without.
func (c *Caller) Secure() *tls.Conn {
	secure, _ := c.Conn.(*tls.Conn)
	return secure
}

// SpeaksHTTP2 awaits the handshake of TLS, or the first bytes, and tells whether the client speaks HTTP/2. Then it returns what was read,
// if anything; else that is left unread.
func (c *Caller) SpeaksHTTP2() (speaks bool, said []byte, err error) {
	c.state.CompareAndSwap(elsewhere, busy)
	defer c.giveUp()
	secure := c.Secure()
	if secure != nil {
		err = c.idly(c.server.HeaderTimeout, secure.Handshake)
		if speaks = secure.ConnectionState().NegotiatedProtocol == http2.NextProtoTLS; speaks || err != nil {
			return speaks, nil, err
		}
	}
	for {
		said = c.in.unread()
		n := min(len(said), len(http2.ClientPreface))
		if n > 0 && (secure != nil || string(said[:n]) != http2.ClientPreface[:n]) {
			return false, nil, nil
		}
		if n > len("PR") { // else it may be a POST, or a PROPFIND
			said = bytes.Clone(said)
			c.in.use(len(said))
			return true, said, nil
		}
		if err = c.idly(c.server.HeaderTimeout, c.await); err != nil {
			return false, nil, err
		}
	}
}

// idly does something without which there is no call, for that long at most.
func (c *Caller) idly(most time.Duration, do func() error) error {
	if !c.state.CompareAndSwap(busy, idle) || c.server.leaving.Load() {
		return errLeft
	}
	now := time.Now()
	if over := now.Add(most); c.wake.Before(over.Add(-most/16)) || c.wake.After(over) {
		c.wake = over
		_ = c.SetReadDeadline(over)
	}
	err := do()
	if !c.state.CompareAndSwap(idle, busy) {
		return errLeft
	}
	return err
}

// await waits for something to come.
func (c *Caller) await() error {
	if err := c.peeker.Wait(); err != nil {
		return err
	}
	return c.in.fill(c.Conn)
}

// giveUp has all that comes next be somebody else's.
func (c *Caller) giveUp() {
	for s := c.state.Load(); s != closed && !c.state.CompareAndSwap(s, elsewhere); s = c.state.Load() {
	}
	if !c.late.IsZero() {
		c.late = time.Time{}
		_ = c.SetWriteDeadline(c.late)
	}
	c.wake = time.Time{}
}

// ServePlain serves plain calls until the next request is none: then that is left unread. Otherwise the connection has ended.
func (c *Caller) ServePlain() error {
	if c.turn == nil {
		c.turn = &turn{news: make(chan struct{}, 1)}
	}
	c.state.CompareAndSwap(elsewhere, busy)
	defer c.giveUp()
	for breaks := 0; ; {
		if len(c.in.unread()) == 0 {
			if err := c.idly(c.server.IdleTimeout, c.await); err != nil {
				return err
			}
		}
		if said := c.in.unread(); breaks > 0 && (said[0] == '\r' || said[0] == '\n') {
			c.in.use(1)
			breaks--
			continue
		}
		if !c.parse() {
			return nil
		}
		res, begun := c.offer()
		if res == nil {
			served, err := c.serve(begun)
			if err != nil {
				return err
			}
			if !served {
				c.begun = begun
				c.offered.Store(true)
				return nil
			}
			breaks = maxBreaks
			continue
		}
		if err := c.respond(res); err != nil {
			return err
		}
		c.in.use(c.n + c.head.length)
		breaks = maxBreaks
	}
}

// parse reads the head of a request. It returns false for one that is not plain, or has not come whole.
func (c *Caller) parse() (plain bool) {
	said := headOf(c.in.unread())
	if said == nil {
		return false
	}
	if c.out, plain = c.head.parse(said, "POST ", " HTTP/1.1", c.out); !plain || c.head.host == "" || c.head.chunked || c.head.length < 0 || !wire.IsPlain(c.head.first) {
		return false
	}
	c.n = len(said)
	c.req = wire.Request{Major: 1, Authority: c.head.host, Path: c.head.first, Header: c.head.fields, Caller: c}
	return true
}

// offer offers a call.
func (c *Caller) offer() (*wire.Response, http.Handler) {
	select {
	case <-c.news: // of a call before
	default:
	}
	if c.watch == nil {
		c.watch = time.AfterFunc(time.Hour, c.lookForCaller)
	}
	defer c.watch.Stop()
	if c.server.Plain == nil {
		return nil, nil
	}
	c.watch.Reset(watchPause)
	return c.server.Plain(&c.req)
}

// watchFor has gone be called when the caller has left, until it is called with nil.
func (c *Caller) watchFor(gone context.CancelFunc) {
	c.watching.Lock()
	defer c.watching.Unlock()
	c.gone, c.pause, c.looker = gone, watchPause, nil
	if gone == nil {
		c.watch.Stop()
	} else {
		c.watch.Reset(c.pause)
	}
}

// lookForCaller looks whether the caller is still there. A handler may take long, and is told by its context.
func (c *Caller) lookForCaller() {
	c.watching.Lock()
	defer c.watching.Unlock()
	looker := c.looker
	if looker == nil {
		looker = wire.NewPeeker(c.Conn)
	}
	switch come, s := looker.Peek(), c.state.Load(); {
	case come == wire.End && c.gone != nil:
		c.gone()
	case come == wire.End, come == wire.Something && c.Secure() != nil, // which may be an end
		c.gone == nil && c.server.ending.Load():
		select {
		case c.news <- struct{}{}:
		default:
		}
	case s == busy || s == leaving: // else the call has just ended
		pause := watchPause
		if c.gone != nil {
			c.looker, c.pause = looker, min(2*c.pause, maxWatchPause)
			pause = c.pause
		}
		c.watch.Reset(pause)
	}
}

// News implements wire.Caller.
func (c *Caller) News() <-chan struct{} { return c.news }

// Body implements wire.Caller.
func (c *Caller) Body(most time.Duration) ([]byte, bool) {
	for whole, waits := c.n+c.head.length, false; ; waits = true {
		if said := c.in.unread(); len(said) >= whole {
			return said[c.n:whole:whole], true
		}
		if !waits {
			c.in.expect(whole)
			c.wake = time.Now().Add(most)
			_ = c.SetReadDeadline(c.wake)
		}
		if c.in.fill(c.Conn) != nil {
			return nil, false
		}
	}
}

// last tells whether the response of a call is the last one of the connection.
func (c *Caller) last() bool {
	return c.state.Load() == leaving || c.server.leaving.Load() || c.server.Last != nil && c.server.Last()
}

// respond sends a response.
func (c *Caller) respond(res *wire.Response) error {
	last := c.last()
	out := appendStatus(roomFor(c.out, len(res.Body)), res.Status)
	if out = appendFields(out, res.Header); last {
		out = append(out, "Connection: close\r\n"...)
	}
	if len(res.Trailers) > 0 {
		out = appendChunked(out, res.Body, res.Trailers)
	} else {
		out = appendBody(out, res.Body)
	}
	if !c.late.Equal(res.Until) {
		c.late = res.Until
		_ = c.SetWriteDeadline(c.late)
	}
	_, err := c.Write(out)
	c.out = keep(out)
	if err == nil && last {
		err = errLeft
	}
	return err
}

// Read implements net.Conn. What net/http has read ahead of the request that it awaits shows in the room that its buffer has left: then
// what follows is no beginning, and is not looked at.
func (c *Caller) Read(p []byte) (int, error) {
	c.room = cmp.Or(c.room, len(p))
	if c.plain && len(p) == c.room {
		if err := c.ServePlain(); err != nil {
			return 0, err
		}
	}
	c.plain = false
	if n, err, ok := c.in.take(p); ok {
		return n, err
	}
	return c.Conn.Read(p)
}

// Between is told that net/http has served a request, and awaits the next one.
func (c *Caller) Between() { c.plain = true }

// Begun returns the handler that is to serve a call which was begun as a plain one, once; nil: there is none. c may be nil.
func (c *Caller) Begun() http.Handler {
	if c == nil {
		return nil
	}
	begun := c.begun
	c.begun = nil
	c.offered.Store(false)
	return begun
}

// Close implements net.Conn. A plain call ends before that, also when Close is called again.
func (c *Caller) Close() error { return c.leave(true) }

// CloseWrite closes the half of the connection on which we write. Where net/http has not read a request to its end, it does this half a second before it closes all, so that the client
// need not wait for that.
func (c *Caller) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite() //nolint:wrapcheck // the error of the connection itself
	}
	return nil
}

// leave closes a connection without a call, and has one with a plain call end with that. A connection that net/http has is closed only if theirs is true.
func (c *Caller) leave(theirs bool) error {
	for {
		switch s := c.state.Load(); {
		case s == closed, s == leaving, s == elsewhere && !theirs, s == busy && c.state.CompareAndSwap(busy, leaving):
			return nil
		case s != busy && c.state.CompareAndSwap(s, closed): // else a call has just begun, or ended
			return c.ended()
		}
	}
}

// end closes the connection at once.
func (c *Caller) end() error {
	if c.state.Swap(closed) == closed {
		return nil
	}
	return c.ended()
}

// ended closes what the connection has below, once its state says so.
func (c *Caller) ended() error {
	c.server.mu.Lock()
	delete(c.server.callers, c)
	c.server.mu.Unlock()
	return c.Conn.Close() //nolint:wrapcheck // the error of the connection itself
}
