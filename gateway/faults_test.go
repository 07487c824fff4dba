package gateway_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"golang.org/x/net/http2"

	"holdline/internal/freeport"
)

// Nobody is there, or nobody who speaks HTTP.
var (
	dialRefused = fault{name: "refused dial", endpoint: func(tb testing.TB) string { return "http://" + freeport.Addr(tb) }}
	droppedSYN  = fault{name: "dropped SYN", endpoint: func(tb testing.TB) string { return "http://" + fullBacklog(tb) }}
	noName      = fault{name: "no such name", endpoint: func(testing.TB) string { return "http://no.such.host.invalid:1" }}
	noTLS       = fault{name: "no TLS", endpoint: func(tb testing.TB) string {
		return "https://" + newFaulty(tb, fault{accept: func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 400 no TLS\r\n\r\n") }}).addr
	}}
	resetAtOnce = fault{name: "reset at once", accept: reset}
)

// The service is alive, and has not looked at the request.
var (
	refusedStream = fault{name: "REFUSED_STREAM", early: true, act: func(x *exchange) { x.rst(http2.ErrCodeRefusedStream) }}
	refusedOnce   = fault{name: "REFUSED_STREAM once", early: true, times: 1, act: refusedStream.act}
	refusedTwice  = fault{name: "REFUSED_STREAM twice", early: true, times: 2, act: refusedStream.act}
	goAwayBelow   = fault{name: "GOAWAY(NO_ERROR) below our stream", early: true, act: func(x *exchange) { x.goAway(0, http2.ErrCodeNo) }}
	goAwayOnce    = fault{name: "GOAWAY(NO_ERROR) below our stream once", early: true, times: 1, act: goAwayBelow.act}
)

// The request came whole, and no headers came back.
var (
	closedAfter   = fault{name: "closed after the request", act: (*exchange).close}
	resetAfter    = fault{name: "reset after the request", act: (*exchange).reset}
	closedOnce    = fault{name: "closed after the request once", times: 1, act: (*exchange).close}
	closedTwice   = fault{name: "closed after the request twice", times: 2, act: (*exchange).close}
	rstInternal   = fault{name: "RST_STREAM INTERNAL_ERROR", act: func(x *exchange) { x.rst(http2.ErrCodeInternal) }}
	rstCancel     = fault{name: "RST_STREAM CANCEL", act: func(x *exchange) { x.rst(http2.ErrCodeCancel) }}
	goAwayOther   = fault{name: "GOAWAY(INTERNAL_ERROR) at our stream", act: func(x *exchange) { x.goAway(x.id, http2.ErrCodeInternal); x.close() }}
	tryTimeout    = fault{name: "try-timeout", options: ";try-timeout=600ms", act: (*exchange).hang}
	tryTimeoutOne = fault{name: "try-timeout once", options: ";try-timeout=1s", times: 1, act: (*exchange).hang}
)

// Headers came back, and not what they promise.
var (
	cutHead = fault{name: "reset after the headers", act: func(x *exchange) { x.head(200, 20, "Content-Type: "+x.contentType); x.reset() }}
	cutByte = fault{name: "closed after a byte", act: func(x *exchange) { x.head(200, unknown, "Content-Type: "+x.contentType); x.data("\x00"); x.close() }}
	cutBody = fault{name: "truncated body", act: func(x *exchange) {
		x.head(200, 20, "Content-Type: "+x.contentType)
		x.data("\x00\x00\x00\x00\x09{}")
		x.close()
	}}
	rstByte = fault{name: "RST_STREAM after a byte", act: func(x *exchange) {
		x.head(200, 20, "Content-Type: "+x.contentType)
		x.data("\x00")
		x.rst(http2.ErrCodeInternal)
	}}
	noStatus = fault{name: "END_STREAM without trailers", act: func(x *exchange) { x.head(200, unknown, "Content-Type: "+x.contentType); x.data(message); x.end() }}
	slowBody = fault{name: "slow body", options: ";try-timeout=500ms", act: func(x *exchange) {
		x.head(200, unknown, "Content-Type: "+x.contentType)
		if strings.HasPrefix(x.contentType, "application/grpc") {
			<-time.After(800 * time.Millisecond) // longer than a try may take
			x.data(message)
		} else {
			x.data("{")
			<-time.After(800 * time.Millisecond)
			x.data("}")
		}
		x.finish()
	}}
)

// Somebody on the way answers.
var (
	bare502 = fault{name: "bare 502, HTML", act: plain(502, "text/html", "<html>")}
	bare503 = fault{name: "bare 503, JSON of somebody else", act: plain(503, "application/json", `{"error":"down"}`)}
	code503 = fault{name: "bare 503, JSON with a code that is none", act: plain(503, "application/json", `{"code":"busy"}`)}
	bare504 = fault{name: "bare 504, empty", act: plain(504, "text/plain", "")}
	once502 = fault{name: "bare 502 once", times: 1, act: bare502.act}
	http404 = fault{name: "plain 404", act: plain(404, "text/plain", "no")}
	http418 = fault{name: "plain 418", act: plain(418, "text/plain", "short and stout")}
	http500 = fault{name: "plain 500", act: plain(500, "text/plain", "oh")}
	http429 = fault{name: "plain 429", act: plain(429, "text/plain", "slow down")}
)

// The service speaks.
var (
	fine        = fault{name: "an answer"}
	unavailable = fault{name: "unavailable", act: rpc(connect.CodeUnavailable)}
	unavailOnce = fault{name: "unavailable once", times: 1, act: rpc(connect.CodeUnavailable)}
	inTrailers  = fault{name: "grpc-status 14 in trailers", act: func(x *exchange) { x.head(200, unknown, "Content-Type: "+x.contentType); x.end("grpc-status: 14") }}
	inFrame     = fault{name: "grpc-status 14 in a trailer frame", act: func(x *exchange) { x.frame("grpc-status: 14\r\n", 0) }}
	inFrames    = fault{name: "grpc-status 14 in a trailer frame in two pieces", act: func(x *exchange) { x.frame("grpc-status: 14\r\n", 5) }}
	inText      = fault{name: "grpc-status 14 in a trailer frame in base64", act: func(x *exchange) {
		x.contentType = "application/grpc-web-text+proto"
		x.head(http.StatusOK, unknown, "Content-Type: "+x.contentType)
		x.data(base64.StdEncoding.EncodeToString([]byte(envelope(0x80, "grpc-status: 14\r\n"))))
		x.end()
	}}
	gzipped = fault{name: "unavailable, compressed", act: func(x *exchange) {
		var body bytes.Buffer
		w := gzip.NewWriter(&body)
		_, _ = io.WriteString(w, `{"code":"unavailable"}`)
		_ = w.Close()
		x.head(503, unknown, "Content-Type: application/json", "Content-Encoding: gzip")
		x.data(body.String())
		x.end()
	}}
	afterMessage = fault{name: "grpc-status 14 after a message", act: func(x *exchange) {
		x.head(200, unknown, "Content-Type: "+x.contentType)
		x.data(message)
		x.end("grpc-status: 14")
	}}
	exhausted  = fault{name: "resource_exhausted", act: rpc(connect.CodeResourceExhausted)}
	exhausted0 = fault{name: "resource_exhausted, Retry-After: 0", act: rpc(connect.CodeResourceExhausted, "Retry-After: 0")}
	exhausted1 = fault{name: "resource_exhausted once, Retry-After: 1", times: 1, act: rpc(connect.CodeResourceExhausted, "Retry-After: 1")}
	exhausted5 = fault{name: "resource_exhausted, Retry-After: 5", act: rpc(connect.CodeResourceExhausted, "Retry-After: 5")}
)

// says is a service that says some other code.
func says(code connect.Code) fault { return fault{name: code.String(), act: rpc(code)} }

const message = "\x00\x00\x00\x00\x00" // an empty one, in its envelope

func (x *exchange) rst(code http2.ErrCode) { _ = x.framer.WriteRSTStream(x.id, code) }

func (x *exchange) goAway(last uint32, code http2.ErrCode) { _ = x.framer.WriteGoAway(last, code, nil) }

func (x *exchange) hang() { x.silent = true }

func plain(status int, contentType, body string) func(x *exchange) {
	return func(x *exchange) {
		x.head(status, len(body), "Content-Type: "+contentType)
		if body != "" {
			x.data(body)
			if x.framer != nil {
				x.end()
			}
		}
	}
}

// ok answers in the protocol of the request.
func (x *exchange) ok() {
	x.head(http.StatusOK, unknown, "Content-Type: "+x.contentType)
	switch {
	case strings.HasPrefix(x.contentType, "application/grpc"):
		x.data(message)
	case strings.HasPrefix(x.contentType, "application/connect+"):
		x.data(envelope(0, "{}"))
	default:
		x.data("{}")
	}
	x.finish()
}

// finish ends an answer with success.
func (x *exchange) finish() {
	switch {
	case strings.HasPrefix(x.contentType, "application/grpc-web"):
		x.data(envelope(0x80, "grpc-status: 0\r\n"))
		x.end()
	case strings.HasPrefix(x.contentType, "application/grpc"):
		x.end("grpc-status: 0")
	case strings.HasPrefix(x.contentType, "application/connect+"):
		x.data(envelope(2, "{}"))
		x.end()
	default:
		x.end()
	}
}

// frame sends gRPC-Web trailers, of which so many bytes go out alone.
func (x *exchange) frame(trailers string, alone int) {
	x.head(http.StatusOK, unknown, "Content-Type: "+x.contentType)
	whole := envelope(0x80, trailers)
	if alone > 0 {
		x.data(whole[:alone])
		<-time.After(20 * time.Millisecond)
	}
	x.data(whole[alone:])
	x.end()
}

func envelope(flags byte, data string) string {
	return string(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(data)))) + data
}

// statuses are the HTTP statuses of the codes that the table uses.
var statuses = map[connect.Code]int{
	connect.CodeUnavailable: 503, connect.CodeResourceExhausted: 429, connect.CodeDeadlineExceeded: 504, connect.CodeCanceled: 499,
	connect.CodeUnimplemented: 501, connect.CodeAborted: 409, connect.CodeUnknown: 500, connect.CodeInternal: 500,
	connect.CodeNotFound: 404, connect.CodeInvalidArgument: 400,
}

// rpc says an error in the protocol of the request; in gRPC, trailers-only.
func rpc(code connect.Code, header ...string) func(x *exchange) {
	return func(x *exchange) {
		switch {
		case strings.HasPrefix(x.contentType, "application/grpc"):
			x.head(http.StatusOK, 0, append(header, "Content-Type: "+x.contentType, fmt.Sprintf("grpc-status: %d", code))...)
		case strings.HasPrefix(x.contentType, "application/connect+"):
			x.head(http.StatusOK, unknown, append(header, "Content-Type: "+x.contentType)...)
			x.data(envelope(2, fmt.Sprintf(`{"error":{"code":%q}}`, code)))
			x.end()
		default:
			x.head(statuses[code], unknown, append(header, "Content-Type: application/json")...)
			x.data(fmt.Sprintf(`{"code":%q}`, code))
			x.end()
		}
	}
}
