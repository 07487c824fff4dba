package h1

import (
	"fmt"
	"net/http"
	"net/textproto"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"holdline/internal/wire"
)

// reply is the http.ResponseWriter of such a handler. It writes as net/http does: with a date, a type, and a length or chunks.
type reply struct {
	c *Caller
	// bounded: there was a deadline for writing.
	bounded atomic.Bool

	header   http.Header
	status   int
	out      []byte // the head as far as the handler has said it, and then what is not written yet
	body     []byte // what is kept of it while it may still get a length
	sentHead bool
	said     struct{ length, kind, date, closes, trailers bool } // by the handler
	chunked  bool
	left     int64    // of the body, by its length; -1: unknown
	trailing []string // the trailers that were announced
	err      error    // the connection is of no more use
}

// firstPart is how much of a body is kept, so that small ones have a length and go out with their heads.
const firstPart = 4 << 10

// handle runs the handler, and ends the response.
func (w *reply) handle(r *http.Request) {
	defer func() {
		switch reason := recover(); reason {
		case nil:
		case http.ErrAbortHandler:
			w.err = errAborted
		default:
			w.err = errAborted
			if log := w.c.server.Log; log != nil {
				log.Error("a handler panicked", "path", r.URL.Path, "panic", reason, "stack", string(debug.Stack()))
			}
		}
	}()
	w.c.server.Handler.ServeHTTP(w, r)
	w.finish()
}

// end gives the room back.
func (w *reply) end() {
	if w.bounded.Load() {
		w.c.late = time.Time{}
		_ = w.c.SetWriteDeadline(w.c.late)
	}
	if w.out != nil {
		w.c.out = keep(w.out)
	}
}

// Header implements http.ResponseWriter.
func (w *reply) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

// SetHeader is for wire.SetHeader.
func (w *reply) SetHeader(header http.Header) bool {
	if len(w.header) > 0 {
		return false
	}
	w.header = header
	return true
}

// WriteHeader implements http.ResponseWriter.
func (w *reply) WriteHeader(status int) {
	switch {
	case status < 100 || status > 999:
		panic(fmt.Sprintf("http1: an invalid status of %d", status))
	case w.status != 0:
		return
	case status < http.StatusOK:
		w.inform(status)
		return
	}
	w.status, w.left = status, -1
	w.out = appendStatus(roomFor(w.c.out, 0), status)
	w.c.out = nil
	for key, values := range w.header {
		if !bodyAllowed(status) && (key == "Content-Length" || key == "Content-Type" && status == http.StatusNotModified) {
			continue
		}
		switch key {
		case "Content-Length":
			w.said.length = true // or that none is to be said
			if len(values) == 0 {
				continue
			}
			n, err := strconv.ParseUint(values[0], 10, 63)
			if err != nil {
				continue
			}
			w.left = int64(n)
		case "Content-Type":
			w.said.kind = true
		case "Content-Encoding":
			w.said.kind = w.said.kind || len(values) > 0 && values[0] != ""
		case "Date":
			w.said.date = true
		case "Transfer-Encoding":
			continue
		case "Connection":
			if w.said.closes = len(values) > 0 && values[0] == "close"; w.said.closes {
				continue
			}
		case "Trailer":
			for _, value := range values {
				for name := range strings.SplitSeq(value, ",") {
					if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); httpguts.ValidTrailerHeader(name) {
						w.trailing = append(w.trailing, name)
					}
				}
			}
		}
		if _, ok := w.trailer(key); ok {
			w.said.trailers = true
		}
		w.out = appendHeader(w.out, key, values)
	}
	w.said.trailers = w.said.trailers || len(w.trailing) > 0
}

// inform sends a response of 1xx.
func (w *reply) inform(status int) {
	out := appendStatus(roomFor(w.c.out, 0), status)
	for key, values := range w.header {
		if key != "Content-Length" && key != "Transfer-Encoding" {
			out = appendHeader(out, key, values)
		}
	}
	w.send(append(out, crlf...))
	w.c.out = keep(out)
}

// send writes to the caller.
func (w *reply) send(out []byte) {
	if w.err == nil && len(out) > 0 {
		_, w.err = w.c.Write(out)
	}
}

// bodyAllowed tells whether a status has a body.
func bodyAllowed(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// sendHead ends the head. What is kept of the body is all of it, if done; else next follows.
func (w *reply) sendHead(done bool, next []byte) {
	w.sentHead = true
	if !bodyAllowed(w.status) {
		w.said.kind = true
	}
	begin := w.body
	if len(begin) == 0 {
		begin = next
	}
	if !w.said.kind && len(begin) > 0 {
		w.out = field(w.out, "Content-Type", http.DetectContentType(begin))
	}
	if !w.said.date {
		w.out = field(w.out, "Date", wire.Date())
	}
	if w.said.closes || w.c.last() {
		w.said.closes = true
		w.out = field(w.out, "Connection", "close")
	}
	switch {
	case !bodyAllowed(w.status), w.left >= 0:
		w.out = append(w.out, crlf...)
	case done && !w.said.length && !w.said.trailers:
		w.out = appendBody(w.out, w.body)
		w.body = nil
	default:
		w.chunked = true
		w.out = append(w.out, "Transfer-Encoding: chunked\r\n\r\n"...)
	}
}

// Write implements io.Writer.
func (w *reply) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case !bodyAllowed(w.status):
		return 0, http.ErrBodyNotAllowed
	case w.left >= 0 && int64(len(p)) > w.left:
		return 0, http.ErrContentLength
	case w.left >= 0:
		w.left -= int64(len(p))
	}
	complete := w.left >= 0 && w.said.kind // so is the head
	if !w.sentHead && !complete && len(w.body)+len(p) <= firstPart {
		w.body = append(w.body, p...)
		return len(p), nil
	}
	w.sendKept(p)
	w.out = w.appendPart(w.out, p)
	if len(w.out) >= firstPart {
		w.flush()
	}
	return len(p), w.err
}

// sendKept appends the head, and what is kept of the body, before next.
func (w *reply) sendKept(next []byte) {
	if !w.sentHead {
		w.sendHead(false, next)
		w.out = w.appendPart(w.out, w.body)
		w.body = nil
	}
}

// appendPart appends part of the body.
func (w *reply) appendPart(out, part []byte) []byte {
	if len(part) == 0 {
		return out
	}
	if !w.chunked {
		return append(out, part...)
	}
	return append(append(appendSize(out, len(part)), part...), crlf...)
}

// flush writes what was appended.
func (w *reply) flush() {
	w.send(w.out)
	w.out = w.out[:0]
}

// Flush implements http.Flusher.
func (w *reply) Flush() { _ = w.FlushError() }

// FlushError is for http.ResponseController.
func (w *reply) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.sendKept(nil)
	w.flush()
	return w.err
}

// finish ends the response.
func (w *reply) finish() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.sentHead {
		w.sendHead(true, nil)
		w.out = w.appendPart(w.out, w.body)
	}
	if w.chunked {
		w.out = append(w.out, "0\r\n"...)
		for key, values := range w.header {
			if name, ok := w.trailer(key); ok {
				w.out = appendHeader(w.out, name, values)
			}
		}
		w.out = append(w.out, crlf...)
	}
	w.flush()
	switch {
	case w.err != nil:
	case w.left > 0 && bodyAllowed(w.status):
		w.err = errAborted // less came than was announced
	case w.said.closes:
		w.err = errLeft
	}
}

// SetReadDeadline is for http.ResponseController. All of the request has come.
func (w *reply) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline is for http.ResponseController. It may be called beside the handler.
func (w *reply) SetWriteDeadline(t time.Time) error {
	w.bounded.Store(true)
	return w.c.SetWriteDeadline(t)
}

// EnableFullDuplex is for http.ResponseController.
func (w *reply) EnableFullDuplex() error { return nil }

// trailer is the name of a trailer that was announced, or has http.TrailerPrefix.
func (w *reply) trailer(key string) (name string, ok bool) {
	if name, ok = strings.CutPrefix(key, http.TrailerPrefix); ok {
		return name, true
	}
	return key, slices.Contains(w.trailing, key)
}

// appendStatus appends the first line of a response.
func appendStatus(out []byte, status int) []byte {
	out = strconv.AppendInt(append(out, "HTTP/1.1 "...), int64(status), 10)
	if text := http.StatusText(status); text != "" {
		out = append(append(out, ' '), text...)
	} else { // as net/http has it
		out = strconv.AppendInt(append(out, " status code "...), int64(status), 10)
	}
	return append(out, "\r\n"...)
}

// noBreaks takes out of a value what would end its line.
var noBreaks = strings.NewReplacer("\n", " ", "\r", " ")

// appendHeader appends the values of a header, as net/http writes them. A name that HTTP does not allow is left out.
func appendHeader(out []byte, key string, values []string) []byte {
	if len(values) == 0 || !httpguts.ValidHeaderFieldName(key) {
		return out
	}
	for _, value := range values {
		if strings.IndexByte(value, '\n') >= 0 || strings.IndexByte(value, '\r') >= 0 { // ContainsAny would make a set each time
			value = noBreaks.Replace(value)
		}
		out = field(out, key, textproto.TrimString(value))
	}
	return out
}

// appendSize begins a chunk.
func appendSize(out []byte, n int) []byte {
	return append(strconv.AppendInt(out, int64(n), 16), crlf...)
}
