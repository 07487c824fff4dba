package h2

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"
)

// What a client says, and what it bounds by itself.
const (
	// streamWindow is how much of a response a server may send before its caller reads, and connWindow how much of all.
	streamWindow, connWindow = 1 << 20, 16 << 20
	// maxHeaderBytes is the largest list of headers that is taken, as RFC 9113, section 6.5.2, counts it.
	maxHeaderBytes = 1 << 20
	// firstStreams is how many streams are opened before the server has said how many it takes.
	firstStreams = 100
	// lastStream is the last id that is used on a connection.
	lastStream = 1<<30 + 1
)

// conn is a connection, as its client has it.
type conn struct {
	link
	idle *time.Timer

	// The link's mutex guards these.
	next      uint32    // id
	limit     int64     // of streams; -1: the server has said none
	maxFields uint64    // bytes of headers that the server takes
	used      time.Time // when the last stream ended
	answered  bool      // there was a response
}

func newConn(nc net.Conn, idleTimeout time.Duration) *conn {
	c := &conn{next: 1, limit: -1, maxFields: 1<<64 - 1, used: time.Now()}
	c.streamWindow, c.linkWindow, c.creditAtOnce, c.maxSize = streamWindow, connWindow, true, maxHeaderBytes
	c.prepare(nc, c, http2.ClientPreface, http2.Setting{ID: http2.SettingEnablePush},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow}, http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxHeaderBytes})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = time.AfterFunc(idleTimeout, func() { c.closeIdle(idleTimeout) })
	c.flush()
	go c.read()
	return c
}

// errIdle is the error of a connection that nobody needs.
var errIdle = errors.New("http2: the connection was idle")

// closeIdle closes a connection without streams for that long.
func (c *conn) closeIdle(timeout time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch left := timeout - time.Since(c.used); {
	case c.err != nil:
	case len(c.streams) > 0:
		c.idle.Reset(timeout)
	case left > 0:
		c.idle.Reset(left)
	default:
		c.leave()
	}
}

// leave has the connection take no more streams, and end with the last of those it has; mu is held.
func (c *conn) leave() {
	c.leaving = true
	if len(c.streams) == 0 {
		c.failed(errIdle)
	}
}

// The methods of role.

func (c *conn) opened(id uint32) bool { return id%2 == 1 && id < c.next }

// closed ignores what a server sends of streams that we have ended.
func (c *conn) closed(uint32, http2.FrameType) error { return nil }

func (c *conn) lastOpened() uint32 { return 0 }

func (c *conn) headers(id uint32, last bool) error {
	f := c.streams[id]
	if f == nil {
		return c.gone(id, http2.FrameHeaders)
	}
	s, _ := f.owner.(*stream)
	c.answered = true
	c.note(f)
	flaw := "its headers are too large"
	if c.size <= c.maxSize {
		flaw = s.take(c.fields, last)
	}
	switch {
	case flaw != "":
		c.refuse(f, http2.ErrCodeProtocol, flaw)
	case last && f.length > 0:
		c.refuse(f, http2.ErrCodeProtocol, "its body is not as long as its content-length")
	case last:
		c.ended(f)
	}
	return nil
}

func (c *conn) setting(id http2.SettingID, value uint32) {
	switch id {
	case http2.SettingMaxConcurrentStreams:
		c.limit = int64(value)
	case http2.SettingMaxHeaderListSize:
		c.maxFields = uint64(value)
	}
}

func (c *conn) emptied() {
	if c.used = time.Now(); c.leaving {
		c.endWritten(errIdle)
	}
}

func (c *conn) goAway(last uint32, code http2.ErrCode) {
	c.leaving = true
	for id, f := range c.streams {
		if id > last { // RFC 9113, section 6.8: nothing has been done with them
			c.note(f)
			f.fail(http2.StreamError{StreamID: id, Code: http2.ErrCodeRefusedStream, Cause: http2.ConnectionError(code)})
			c.remove(f)
		}
	}
	if len(c.streams) == 0 {
		c.endWritten(errLost)
	}
}

// lost tells of a stream of which nothing has been given to the kernel that nothing was sent.
func (c *conn) lost(f *flow, err error) error {
	if s, _ := f.owner.(*stream); s.from >= c.handed {
		return fmt.Errorf("%w: %w", ErrUnsent, err)
	}
	return err
}

func (c *conn) settled() {}

func (c *conn) down() { c.idle.Stop() }
