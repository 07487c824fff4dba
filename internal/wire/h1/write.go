package h1

import (
	"cmp"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"holdline/internal/wire"
)

// writtenElsewhere are headers that describe the message, which is written anew.
var writtenElsewhere = map[string]bool{"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Trailer": true}

// write writes the request. A body that is large, or that is not at hand, is sent beside the response: then proceed has it begin, if it
// waits for the server to ask for it.
func (x *exchange) write() (proceed func(), err error) {
	c, req, length := x.c, x.req, wire.Length(x.req)
	out := append(append(append(c.out[:0], req.Method...), ' '), req.URL.RequestURI()...)
	out = field(append(out, " HTTP/1.1\r\n"...), "Host", cmp.Or(req.Host, req.URL.Host))
	for key, values := range req.Header {
		if writtenElsewhere[key] {
			continue
		}
		for _, value := range values {
			out = field(out, key, value)
		}
	}
	switch {
	case length < 0:
		out = field(out, "Transfer-Encoding", "chunked")
	case wire.SaysLength(req):
		out = field(out, "Content-Length", strconv.FormatInt(length, 10))
	}
	out = append(out, "\r\n"...)
	atHand, asks := false, wire.Asks(req.Header)
	if 0 < length && length <= atOnce && wire.AtHand(req.Body) && !asks {
		atHand = true
		head := len(out)
		out = append(out, make([]byte, length)...)
		if _, err := io.ReadFull(req.Body, out[head:]); err != nil {
			return func() {}, err
		}
	}
	c.out = out
	if _, err := c.Write(out); err != nil {
		return func() {}, err
	}
	if x.trace != nil && x.trace.WroteHeaders != nil {
		x.trace.WroteHeaders()
	}
	if atHand || length == 0 {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return func() {}, nil
	}
	x.sent = make(chan struct{})
	proceed = sync.OnceFunc(func() { go x.send(length) })
	if asks {
		x.asked = time.AfterFunc(x.t.ExpectTimeout, proceed)
	} else {
		proceed()
	}
	return proceed, nil
}

func field(out []byte, key, value string) []byte {
	return append(append(append(append(out, key...), ": "...), value...), "\r\n"...)
}

// parts holds what bodies are read into, with room for the marks of a chunk.
var parts = sync.Pool{New: func() any { return new([chunkHead + 16<<10 + 2]byte) }}

const chunkHead = len("4000\r\n")

// send sends a body beside its response. A body that ends in an error, or too early, takes the connection with it: the
// server must not take it for whole.
func (x *exchange) send(length int64) {
	defer close(x.sent)
	defer func() { _ = x.req.Body.Close() }()
	part := parts.Get().(*[chunkHead + 16<<10 + 2]byte)
	defer parts.Put(part)
	for left := length; ; {
		room := part[chunkHead : chunkHead+16<<10]
		n, err := x.req.Body.Read(room)
		end := errors.Is(err, io.EOF)
		if left -= int64(n); err != nil && !end || length >= 0 && (left < 0 || end && left > 0) {
			_ = x.c.Close()
			return
		}
		whole := room[:n]
		if length < 0 && n > 0 {
			size := strconv.AppendInt(nil, int64(n), 16)
			at := chunkHead - 2 - len(size)
			copy(part[at:], size)
			copy(part[chunkHead-2:], "\r\n")
			copy(part[chunkHead+n:], "\r\n")
			whole = part[at : chunkHead+n+2]
		}
		if n > 0 {
			if _, err := x.c.Write(whole); err != nil {
				return
			}
		}
		if end {
			if length < 0 {
				_, err = io.WriteString(x.c.Conn, "0\r\n\r\n")
			}
			x.whole = length >= 0 || err == nil
			return
		}
	}
}
