package gateway

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect/v2"

	"holdline/internal/upstream"
)

// deadlineGrace is the time from the caller's deadline to the end of the call. In this time the
// service, which knows the deadline, may end the call with an error of its own. And a caller that
// watches its clock leaves before we break off its answer.
const deadlineGrace = 100 * time.Millisecond

// lastWords is how long a caller may take after that to read the error. Without this limit a caller
// that reads nothing would keep the call open for ever.
const lastWords = time.Second

// endAtDeadline ends the call when its caller's time is over, until stop is called.
func (c *call) endAtDeadline(w http.ResponseWriter) (stop func()) {
	stopped, done := make(chan struct{}), make(chan struct{})
	timer := time.AfterFunc(time.Until(c.deadline)+deadlineGrace, func() {
		defer close(done)
		c.cancel(upstream.ErrDeadline)
		patience := time.NewTimer(lastWords)
		defer patience.Stop()
		select {
		case <-stopped:
		case <-patience.C:
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now())
		}
	})
	return func() {
		close(stopped)
		if !timer.Stop() {
			<-done // otherwise the timer could still set the write deadline of the next response
		}
	}
}

// ender is who ended a response before it had come whole.
type ender uint8

const (
	byNobody   ender = iota // the response came whole
	byService               // the service ended it, or the MOM did
	byCaller                // the caller left, or its request broke off
	byDeadline              // the caller's deadline was over
)

// ender returns who ended a response, or an attempt, that broke off. A service that
// knows the caller's deadline may end a late call before we do, but not before the deadline (contract.SetTimeout).
func (c *call) ender() ender {
	switch {
	case c.in.Context().Err() != nil, c.broken.Load():
		return byCaller
	case c.late(0):
		return byDeadline
	}
	return byService
}

// judged corrects the outcome of an attempt by something that the endpoint cannot know: that the
// connection broke when the caller's deadline was over. Then the call ends in the same way as
// with a service that sends nothing.
func (c *call) judged(ctx context.Context, outcome upstream.Outcome, err error) upstream.Outcome {
	if outcome.Kind != upstream.Broken || c.ender() != byDeadline {
		return outcome
	}
	<-ctx.Done()
	return upstream.BrokeOff(ctx, err)
}

// endLate ends the body of a response whose head is out, with an error in the
// caller's protocol. It returns false where the protocol has no place for an error: then
// the connection, or the stream, has to break. framed is true if the response has no Content-Length,
// so that more may be written.
func endLate(w http.ResponseWriter, c *call, seen *envelopes, framed bool) bool {
	err := connect.Errorf(connect.CodeDeadlineExceeded, "%s did not end its answer in the time that the caller gave", c.target.service)
	header := w.Header()
	contentType := upstream.MediaType(header)
	switch {
	case !framed || header.Get("Content-Encoding") != "":
		return false
	case strings.HasPrefix(contentType, "application/grpc-web"):
		// In base64 we cannot see where a message ends.
		return !strings.HasPrefix(contentType, "application/grpc-web-text") &&
			seen.close(w, webTrailers, []byte("grpc-status: "+grpcDeadline+"\r\ngrpc-message: "+err.Message()+"\r\n"))
	case strings.HasPrefix(contentType, "application/grpc"):
		clear(header)
		header.Set(http.TrailerPrefix+"Grpc-Status", grpcDeadline)
		header.Set(http.TrailerPrefix+"Grpc-Message", err.Message())
		return true
	case strings.HasPrefix(contentType, "application/connect+"):
		last, _ := json.Marshal(map[string]any{"error": map[string]string{"code": err.Code().String(), "message": err.Message()}})
		return seen.close(w, connectEnd, last)
	}
	return false
}

// grpcDeadline is deadline_exceeded. Our messages need no escapes.
const grpcDeadline = "4"

// Flags of the envelopes that end a stream: of gRPC-Web, and of Connect.
const webTrailers, connectEnd = 0x80, 0x02

// envelopeHead is the length of flags and size before each message.
const envelopeHead = 5

// envelopes follows the messages of a stream while they pass, so that a message may be added after
// the last one. The zero value has seen no message.
type envelopes struct {
	head  [envelopeHead]byte
	have  int    // bytes of the head
	left  uint32 // bytes of the message
	ended bool   // the service has sent the envelope that ends the stream
}

// pass reads a part of the stream that passes.
func (e *envelopes) pass(p []byte) {
	for len(p) > 0 {
		if e.left > 0 {
			n := min(uint64(e.left), uint64(len(p)))
			p, e.left = p[n:], e.left-uint32(n)
			continue
		}
		n := copy(e.head[e.have:], p)
		p, e.have = p[n:], e.have+n
		if e.have == envelopeHead {
			e.have, e.left = 0, binary.BigEndian.Uint32(e.head[1:])
			e.ended = e.head[0]&(webTrailers|connectEnd) != 0
		}
	}
}

// close writes the message that ends the stream, unless the service has sent one. It returns false in the middle of another message.
func (e *envelopes) close(w http.ResponseWriter, flags byte, message []byte) bool {
	if e.have > 0 || e.left > 0 {
		return false
	}
	if !e.ended {
		head := binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message)))
		_, _ = w.Write(append(head, message...)) // an error means that the caller has left
	}
	return true
}
