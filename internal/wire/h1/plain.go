package h1

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/wire"
)

// newsPause is how often the one who waits for a plain response looks whether there is news of the caller. It takes up to twice as long.
const newsPause = 20 * time.Millisecond

// plainExchange is one of a plain call.
type plainExchange struct {
	exchange
	n    int // bytes of the head that was parsed; 0: none was
	m    int // and of the body
	head head
	body []byte
	res  wire.Response
}

// Begin implements wire.PlainClient.
func (t *Transport) Begin(req *wire.Request) wire.Exchange {
	cookies := 0
	for _, f := range req.Header {
		if f.Name == "cookie" {
			cookies++ // HTTP/2 may have it in crumbs, HTTP/1.1 not
		}
	}
	if cookies > 1 {
		return nil
	}
	c := t.take()
	if c == nil {
		return nil
	}
	out := append(append(append(roomFor(c.out, len(req.Body)), "POST "...), req.Path...), " HTTP/1.1\r\nHost: "...)
	out = appendFields(append(append(out, req.Authority...), "\r\n"...), req.Header)
	out = appendBody(out, req.Body)
	x := &plainExchange{exchange: exchange{t: t, c: c}}
	n, err := c.Write(out)
	c.out = keep(out)
	if err != nil && n == 0 {
		_ = c.Close()
		return nil
	}
	x.failed = err
	return x
}

// appendBody ends a head, and appends the body.
func appendBody(out, body []byte) []byte {
	out = strconv.AppendInt(append(out, "Content-Length: "...), int64(len(body)), 10)
	return append(append(out, "\r\n\r\n"...), body...)
}

// roomFor is scratch without its bytes, or room for a message with a larger body.
func roomFor(scratch []byte, body int) []byte {
	if body < maxKept/2 {
		return scratch[:0]
	}
	return wire.Room(scratch[:0], body+maxKept/2)
}

// keep is what is kept of scratch until the next message.
func keep(scratch []byte) []byte {
	if cap(scratch) <= maxKept {
		return scratch
	}
	wire.GiveBack(scratch)
	return nil
}

// appendChunked is appendBody for a body with trailers.
func appendChunked(out, body []byte, trailers []hpack.HeaderField) []byte {
	out = append(out, "Transfer-Encoding: chunked\r\n\r\n"...)
	if len(body) > 0 {
		out = append(strconv.AppendInt(out, int64(len(body)), 16), "\r\n"...)
		out = append(append(out, body...), "\r\n"...)
	}
	return append(appendFields(append(out, "0\r\n"...), trailers), "\r\n"...)
}

// Whole implements wire.Exchange.
func (x *plainExchange) Whole(news <-chan struct{}, most time.Duration) *wire.Response {
	began := time.Now()
	for now := began; x.failed == nil; now = time.Now() {
		plain, whole := x.look()
		if whole {
			x.res.Header, x.res.Body = x.head.fields, x.body
			return &x.res
		}
		if !plain {
			return nil
		}
		select {
		case <-news:
			return nil
		default:
		}
		wake := now.Add(2 * newsPause)
		if most > 0 {
			over := began.Add(most)
			if !now.Before(over) {
				return nil
			}
			if over.Before(wake) {
				wake = over
			}
		}
		if x.c.wake.After(wake) || x.c.wake.Before(now.Add(newsPause)) {
			x.c.wakeAt(wake)
		}
		if err := x.c.ahead.fill(x.c.Conn); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
	}
	return nil
}

// look tells whether what was read is a plain response, as far as it goes, and whether that is whole.
func (x *plainExchange) look() (plain, whole bool) {
	raw := x.c.ahead.unread()
	if x.n == 0 {
		said := headOf(raw)
		if said == nil {
			return len(raw) < maxPlainHead && !hasBareBreak(raw), false
		}
		x.c.out, plain = x.head.parse(said, "HTTP/1.1 ", "", x.c.out)
		if x.res.Status = plainStatus(x.head.first); !plain || x.res.Status == 0 || x.head.chunked == (x.head.length >= 0) {
			return false, false
		}
		if x.n = len(said); x.head.length > 0 {
			x.c.ahead.expect(x.n + x.head.length)
		}
	}
	raw = x.c.ahead.unread()[x.n:]
	if x.head.chunked {
		x.body, x.m, plain, whole = unchunk(x.body[:0], raw)
		return plain, whole
	}
	if whole = len(raw) >= x.head.length; whole {
		x.body, x.m = bytes.Clone(raw[:x.head.length]), x.head.length
	}
	return true, whole
}

// plainStatus reads the status, and its reason, of a response that has a body if it has a length; 0: it is another.
func plainStatus(line string) int {
	if len(line) > 3 && (line[3] != ' ' || !httpguts.ValidHeaderFieldValue(line)) {
		return 0
	}
	status, err := strconv.ParseUint(line[:min(3, len(line))], 10, 16)
	if err != nil || status != http.StatusOK && status < http.StatusBadRequest {
		return 0
	}
	return int(status)
}

// End implements wire.Exchange.
func (x *plainExchange) End() {
	c := x.c
	c.ahead.use(x.n + x.m)
	if c.keep = x.t.IdleTimeout; x.head.keepAlive != "" {
		c.keep = keepAlive(x.head.keepAlive, c.keep)
	}
	if len(c.ahead.unread()) > 0 || c.ahead.err != nil {
		_ = c.Close()
		return
	}
	x.t.put(c)
}

// Await implements wire.Exchange.
func (x *plainExchange) Await(ctx context.Context, informed func(code int, header http.Header) error) (*http.Response, error) {
	x.informed = informed
	x.bind(ctx)
	return x.receive(func() {})
}

// HeadCame implements wire.Exchange.
func (x *plainExchange) HeadCame() bool {
	for raw := x.c.ahead.unread(); ; {
		said := headOf(raw)
		if !strings.HasPrefix(string(said), "HTTP/1.1 1") {
			return said != nil
		}
		raw = raw[len(said):]
	}
}

// Conn implements wire.Exchange.
func (x *plainExchange) Conn() net.Conn { return x.c.Conn }
