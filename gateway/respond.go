package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"

	"holdline/internal/contract"
	"holdline/internal/upstream"
	"holdline/internal/wire"
)

// bufferSize is how much of a body is copied at once, in bytes.
const bufferSize = 32 << 10

// respond passes the response on. It ends the request itself: on a full-duplex
// stream, closing the response waits for the request's writer, which waits for
// the caller, who waits for the trailers. So: trailers, cancel, close.
//
// It returns who ended the response, and whether the caller has to see that it broke off.
func respond(w http.ResponseWriter, c *call, res *upstream.Response) (by ender, abort bool) {
	defer func() {
		c.cancel(context.Canceled)
		_ = res.Close()
	}()
	flush := c.writeHead(w, res)
	controller := http.NewResponseController(w)
	if flush {
		_ = controller.Flush()
	}
	var seen envelopes
	var buffer []byte
	defer func() { wire.GiveBack(buffer) }()
	for part, err := res.Head(); ; {
		if len(part) > 0 {
			if _, writeErr := w.Write(part); writeErr != nil {
				return byCaller, false
			}
			if flush {
				_ = controller.Flush()
			}
			if !c.deadline.IsZero() {
				seen.pass(part)
			}
		}
		if errors.Is(err, io.EOF) {
			c.ended = endOf(res.Response) // its headers may be those of w
			writeTrailer(w.Header(), res.Trailer)
			return byNobody, false
		}
		if err != nil {
			by = c.ender()
			if by == byDeadline && endLate(w, c, &seen, len(w.Header()["Content-Length"]) == 0) {
				return by, false
			}
			// Clients send a call again, whatever it does, if they have got nothing of an answer on a connection that was used before.
			_ = controller.Flush()
			return by, true
		}
		if buffer == nil {
			buffer = wire.Room(nil, bufferSize)[:bufferSize]
		}
		n, next := res.Read(buffer)
		part, err = buffer[:n], next
	}
}

// writeHead writes status and headers, and tells whether each read of the body is
// to be flushed.
func (c *call) writeHead(w http.ResponseWriter, res *upstream.Response) (flush bool) {
	header := res.Header
	cleanHop(header)
	if !wire.SetHeader(w, header) {
		ours := w.Header()
		for key, values := range header {
			if key == contract.HeaderDecision && len(ours[key]) > 0 {
				continue // the gateway has set its own for this call
			}
			if key == "Vary" { // CORS has set one already
				values = append(ours[key], values...)
			}
			ours[key] = values
		}
		header = ours
	}
	suppressDefaults(header, "Date", "Content-Type")
	// A unary answer ends soon, so HTTP/2 may put its head, its message and its
	// end into one write; HTTP/1.1 has to be told to use chunks.
	flush = res.ContentLength < 0 && res.Body != http.NoBody
	if c.in.ProtoMajor == 2 {
		if c.unary() {
			flush = false
			suppressDefaults(header, "Content-Length")
		}
		if res.ContentLength == 0 && res.Body != http.NoBody && upstream.IsGRPC(header) { // nginx would take a response of length 0 as ended before its trailers
			header["Content-Length"] = nil
		}
	}
	w.WriteHeader(res.StatusCode)
	return flush
}

// writeTrailer makes the service's trailers ours.
func writeTrailer(header, trailer http.Header) {
	if len(trailer) == 0 {
		return
	}
	cleanHop(trailer)
	delete(trailer, "Content-Length") // frames messages; no trailer may
	clear(header)                     // the headers are sent already
	for key, values := range trailer {
		if len(values) > 0 { // a trailer without values was announced, but did not come
			header[http.TrailerPrefix+key] = values
		}
	}
}

// suppressDefaults keeps net/http from inventing headers that the other side did not send.
func suppressDefaults(header http.Header, keys ...string) {
	for _, key := range keys {
		if _, ok := header[key]; !ok {
			header[key] = nil
		}
	}
}
