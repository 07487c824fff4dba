package h2

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/wire"
)

// response is what a handler has said so far. It is written as net/http's server writes it: with a date, a length and a type, where the
// handler has no entry for them. Only the handler uses it, one goroutine at a time.
type response struct {
	header   http.Header
	status   int
	kept     []hpack.HeaderField // the headers as they were at WriteHeader, while they are not sent
	keptIn   *roomForFields      // its room
	sized    bool                // the handler has said how long the body is, or that this is not to be said
	typed    bool                // likewise of the type
	dated    bool                // and of the date
	closes   bool                // the connection takes no more calls
	sentHead bool                // guarded by the link's mutex: who reads the body may send 100 Continue
	isHead   bool                // it answers a HEAD
	left     int64               // of the body, by its content-length; -1: unknown
	trailing []string            // the trailers that were announced
	body     []byte              // what is kept of it
	done     bool
}

// firstPart is how much of a body is kept for a while: so small ones have a length, and go out at once.
const firstPart = 4 << 10

// errWritten is the error of a handler that writes what nobody reads any more.
var errWritten = errors.New("http2: the call has ended")

// Header implements http.ResponseWriter.
func (c *call) Header() http.Header {
	if c.header == nil {
		c.header = http.Header{}
	}
	return c.header
}

// SetHeader is for wire.SetHeader.
func (c *call) SetHeader(header http.Header) bool {
	if len(c.header) > 0 {
		return false
	}
	c.header = header
	return true
}

// WriteHeader implements http.ResponseWriter.
func (c *call) WriteHeader(status int) {
	switch {
	case status < 100 || status > 999:
		panic(fmt.Sprintf("http2: an invalid status of %d", status))
	case c.status != 0 || c.done:
		return
	case status < http.StatusOK:
		c.informational(status, c.header)
		return
	}
	c.status, c.left = status, -1
	if said := c.header.Get("Content-Length"); said != "" {
		if length, err := strconv.ParseUint(said, 10, 63); err == nil {
			c.left = int64(length)
		}
	}
	c.announce(c.header["Trailer"])
	_, c.sized = c.header["Content-Length"]
	c.sized = c.sized && (c.left >= 0 || c.header.Get("Content-Length") == "")
	_, c.typed = c.header["Content-Type"]
	c.typed = c.typed || c.header.Get("Content-Encoding") != ""
	_, c.dated = c.header["Date"]
	c.closes = c.header.Get("Connection") == "close"
	c.keptIn = rooms.Get().(*roomForFields) //nolint:forcetypeassert // nothing else is in it
	c.kept = c.keptIn[:0]
	for key, values := range c.header {
		if key != "Content-Length" || c.left >= 0 {
			c.kept = wire.AppendFields(c.kept, key, values...)
		}
	}
}

// informational sends a response of 1xx.
func (c *call) informational(status int, header http.Header) {
	var fields []hpack.HeaderField
	for key, values := range header {
		if key != "Content-Length" {
			fields = wire.AppendFields(fields, key, values...)
		}
	}
	c.Inform(status, fields)
}

// Inform implements wire.Holding.
func (c *call) Inform(status int, header []hpack.HeaderField) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if !c.waitForWriter() || c.sentHead {
		return
	}
	c.l.newBlock()
	c.l.add(":status", strconv.Itoa(status))
	c.l.addAll(header)
	c.l.headerBlock(c.id, 0)
	c.l.flush()
}

// sendHead appends the head of the response; body is the begin of what follows, or all of it when the handler is done. mu is held.
func (c *call) sendHead(body []byte, trailers bool) {
	c.sentHead = true
	if !c.waitForWriter() {
		return
	}
	bodyAllowed := c.status != http.StatusNoContent && c.status != http.StatusNotModified
	c.l.newBlock()
	c.l.add(":status", statusCode(c.status))
	c.l.addAll(c.kept)
	c.keptIn.giveBack()
	c.kept, c.keptIn = nil, nil
	// For nginx a response with a length of 0 has ended, and it drops the trailers: those of an error in gRPC.
	if !c.sized && c.done && bodyAllowed && (len(body) > 0 || !c.isHead && !trailers) {
		c.l.add("content-length", strconv.Itoa(len(body)))
	}
	if !c.typed && bodyAllowed && len(body) > 0 {
		c.l.add("content-type", http.DetectContentType(body))
	}
	if !c.dated {
		c.l.add("date", wire.Date())
	}
	flags := http2.Flags(0)
	if c.isHead || c.done && len(body) == 0 && !trailers {
		flags, c.sent = http2.FlagHeadersEndStream, true
	}
	c.l.headerBlock(c.id, flags)
	if c.closes {
		c.caller.leaveNow()
	}
}

// statusCode is strconv.Itoa, which allocates.
func statusCode(status int) string {
	if status == http.StatusOK {
		return "200"
	}
	return strconv.Itoa(status)
}

func (c *call) announce(values []string) {
	for _, keys := range values {
		for key := range strings.SplitSeq(keys, ",") {
			c.trailing = append(c.trailing, http.CanonicalHeaderKey(strings.TrimSpace(key)))
		}
	}
}

// Write implements io.Writer.
func (c *call) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	switch {
	case c.done:
		return 0, errWritten
	case c.status == http.StatusNoContent || c.status == http.StatusNotModified:
		return 0, http.ErrBodyNotAllowed
	case c.left >= 0 && int64(len(p)) > c.left:
		return 0, http.ErrContentLength
	case c.left >= 0:
		c.left -= int64(len(p))
	}
	if len(c.body)+len(p) > firstPart {
		return c.chunk(p)
	}
	if c.body == nil {
		c.body = wire.Room(nil, firstPart)
	}
	c.body = append(c.body, p...)
	return len(p), nil
}

// chunk sends what was kept, and then p.
func (c *call) chunk(p []byte) (int, error) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	defer c.l.flush()
	first := c.body
	c.body = c.body[:0]
	if !c.sentHead {
		begin := first
		if len(begin) == 0 {
			begin = p
		}
		c.sendHead(begin, false)
	}
	switch {
	case c.isHead:
	case !c.push(first, false) || !c.push(p, false):
		return 0, errWritten
	}
	return len(p), nil
}

// Flush implements http.Flusher.
func (c *call) Flush() { _ = c.FlushError() }

// FlushError is for http.ResponseController.
func (c *call) FlushError() error {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	_, err := c.chunk(nil)
	return err
}

// finish ends a call when its handler has returned.
func (c *call) finish() {
	reason := recover()
	if reason != nil && reason != http.ErrAbortHandler && c.caller.server.Log != nil { //nolint:errorlint // as in net/http, it is never wrapped
		c.caller.server.Log.Error("a handler panicked", "path", c.pseudo[3], "panic", reason, "stack", string(debug.Stack()))
	}
	answers := reason == nil && c.request != nil // else it was answered as a plain one, or has ended
	if answers && c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	l := c.l
	l.mu.Lock()
	defer l.mu.Unlock()
	c.done = true
	switch {
	case c.answer != nil:
		c.respond(c.answer)
	case answers:
		c.complete()
	}
	c.caller.running-- // before the end of the response can be read: its reader has room for another call
	if c.live() {
		switch {
		case reason != nil:
			l.reset(c.id, http2.ErrCodeInternal)
		case !c.whole: // nobody reads the rest
			l.reset(c.id, http2.ErrCodeNo)
		}
		l.remove(&c.flow)
	}
	if c.end != nil {
		c.end()
	}
	c.err, c.in = errClosed, nil
	if c.signal(); c.answer != nil {
		c.recycle()
	}
	l.flush()
	wire.GiveBack(c.body)
	c.body = nil
}

// complete sends what is left of the response; mu is held.
func (c *call) complete() {
	trailers := false
	for key := range c.header {
		if _, ok := c.trailer(key); ok {
			trailers = true
			break
		}
	}
	rest := c.body
	if !c.sentHead {
		c.sendHead(rest, trailers)
	}
	if c.sent || !c.push(rest, !trailers) || !trailers || c.sent { // it may have ended meanwhile
		return
	}
	room := rooms.Get().(*roomForFields) //nolint:forcetypeassert // nothing else is in it
	fields := room[:0]
	for key, values := range c.header {
		if name, ok := c.trailer(key); ok {
			fields = wire.AppendFields(fields, name, values...)
		}
	}
	c.l.newBlock()
	c.l.addAll(fields)
	room.giveBack()
	c.l.headerBlock(c.id, http2.FlagHeadersEndStream)
	c.sent = true
}

// trailer is the name of a trailer that was announced, or has http.TrailerPrefix.
func (c *call) trailer(key string) (name string, ok bool) {
	if name, ok = strings.CutPrefix(key, http.TrailerPrefix); !ok {
		name, ok = key, slices.Contains(c.trailing, key)
	}
	return name, ok && httpguts.ValidTrailerHeader(name)
}
