package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// caller is a connection, as its server has it.
type caller struct {
	link
	server  *Server
	ctx     context.Context //nolint:containedctx // of all calls
	handler http.Handler
	secure  *tls.ConnectionState // nil without TLS
	remote  string               // address
	timer   *time.Timer          // of watch

	// The link's mutex guards these.
	seen    uint32    // the highest id of a stream
	last    uint32    // the highest of one that is served
	running int       // calls whose handlers have not returned
	fresh   []*call   // whose handlers do not run yet
	heard   time.Time // when something came
	block   time.Time // when a block of headers began that is not whole; zero: there is none
	pinged  time.Time // when a PING was sent to which nothing has come; zero: there is none
	used    time.Time // when the last call ended
}

// Errors of connections that we end.
var (
	errLeft   = errors.New("http2: the connection was idle, or the server ends")
	errSilent = errors.New("http2: the client is silent")
)

// leave has the client open no more streams. The connection ends with the last call.
func (c *caller) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaveNow()
}

// leaveNow is leave; mu is held.
func (c *caller) leaveNow() {
	if c.leaving {
		return
	}
	c.leaving = true
	c.sayGoAway(http2.ErrCodeNo)
	c.flush()
	c.endIfDone()
}

// endIfDone ends a connection that takes no more calls, after the last of them; mu is held.
func (c *caller) endIfDone() {
	if c.leaving && len(c.streams) == 0 {
		c.endWritten(errLeft)
	}
}

// watch ends what takes too long, and looks again when that may next be so.
func (c *caller) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	now, limits := time.Now(), c.server
	next := limits.IdleTimeout
	// over tells whether more than a time has passed since then; else we look again when it has.
	over := func(since time.Time, limit time.Duration) bool {
		left := limit - now.Sub(since)
		if left > 0 {
			next = min(next, left)
		}
		return left <= 0
	}
	switch {
	case !c.greeted && over(c.used, limits.HeaderTimeout), !c.block.IsZero() && over(c.block, limits.HeaderTimeout),
		!c.pinged.IsZero() && over(c.pinged, limits.PingTimeout):
		c.failed(errSilent)
		return
	case c.running == 0 && len(c.streams) == 0:
		if over(c.used, limits.IdleTimeout) {
			c.leaveNow()
		}
	case c.pinged.IsZero() && over(c.heard, limits.IdleTimeout):
		c.frame(http2.FramePing, 0, 0, 8)
		c.out = append(c.out, "Holdline"...)
		c.pinged, next = now, limits.PingTimeout
		c.flush()
	}
	c.timer.Reset(next)
}

// The methods of role.

func (c *caller) opened(id uint32) bool { return id%2 == 1 && id <= c.seen }

func (c *caller) lastOpened() uint32 { return c.last }

// closed tells a client that its stream has ended. A RST_STREAM, and credit, may have crossed ours.
func (c *caller) closed(id uint32, kind http2.FrameType) error {
	if id > c.last || kind != http2.FrameData && kind != http2.FrameHeaders {
		return nil // what came after our GOAWAY is ignored
	}
	return c.decline(id, http2.ErrCodeStreamClosed)
}

// decline resets a stream that is not served.
func (c *caller) decline(id uint32, code http2.ErrCode) error {
	c.reset(id, code)
	return c.owes(frameHead + 4)
}

func (c *caller) headers(id uint32, last bool) error {
	if f := c.streams[id]; f != nil {
		return c.moreHeaders(f, last)
	}
	begins := len(c.fields) > 0 && strings.HasPrefix(c.fields[0].Name, ":")
	switch {
	case id%2 == 0, id <= c.seen && begins:
		return broken(http2.ErrCodeProtocol, "a request on stream %d", id)
	case id <= c.seen:
		return c.closed(id, http2.FrameHeaders)
	}
	c.seen = id
	if c.leaving {
		return nil
	}
	c.last = id
	if c.running >= c.server.MaxStreams {
		return c.decline(id, http2.ErrCodeRefusedStream)
	}
	call := &call{caller: c}
	call.begin(&c.link, call, id)
	if c.size > c.maxSize {
		call.refuse(http.StatusRequestHeaderFieldsTooLarge, "the headers are larger than the server takes")
	} else if flaw := call.take(c.fields, last); flaw != "" {
		delete(c.streams, id)
		return c.decline(id, http2.ErrCodeProtocol)
	}
	call.whole = last
	if c.running++; c.running == c.server.MaxStreams && c.server.Full != nil {
		c.server.Full(c.remote)
	}
	c.fresh = append(c.fresh, call)
	return nil
}

// moreHeaders takes trailers.
func (c *caller) moreHeaders(f *flow, last bool) error {
	call, _ := f.owner.(*call)
	c.note(f)
	switch {
	case f.whole:
		c.refuse(f, http2.ErrCodeStreamClosed, "headers after its end")
	case !last, c.size > c.maxSize, !call.takeTrailers(c.fields):
		c.refuse(f, http2.ErrCodeProtocol, "its trailers")
	case f.length > 0:
		c.refuse(f, http2.ErrCodeProtocol, "its body is not as long as its content-length")
	default:
		c.ended(f)
	}
	return nil
}

func (c *caller) setting(http2.SettingID, uint32) {}

func (c *caller) emptied() {
	c.used = time.Now()
	c.endIfDone()
}

func (c *caller) goAway(uint32, http2.ErrCode) { c.leaveNow() }

func (c *caller) lost(_ *flow, err error) error { return err }

// settled runs the handlers of new calls: their bodies may have come as well.
func (c *caller) settled() {
	c.heard, c.pinged = time.Now(), time.Time{}
	switch open := c.blockOf != 0 || c.heads; {
	case !open:
		c.block = time.Time{}
	case c.block.IsZero():
		c.block = c.heard
		c.timer.Reset(0) // it may look much later
	}
	for i, call := range c.fresh {
		workers.Start(call)
		c.fresh[i] = nil
	}
	c.fresh = c.fresh[:0]
}

func (c *caller) down() { c.timer.Stop() }
