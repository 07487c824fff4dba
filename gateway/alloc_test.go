package gateway_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// BenchmarkPlainCall is a call through a gateway. Its caller and its service send the same bytes again and again and allocate
// nothing, so that what is counted is the gateway's.
func BenchmarkPlainCall(b *testing.B) {
	b.Run("gRPC", func(b *testing.B) {
		callAlike(b, front(b, listenAs(b, answersAlike(saying{head: grpcHead, body: message, trailers: []string{"grpc-status: 0"}}))), repeatable, "grpc-timeout: 10S")
	})
	b.Run("HTTP1", func(b *testing.B) {
		callAlike1(b, front(b, listenAs(b, answerAlike1)), repeatable, "Connect-Timeout-Ms: 10000")
	})
}

// BenchmarkHandOff is the same for a call that a MOM stores, of which its caller gets the handle at once, or which has a key and is held until
// there is an answer: which comes at once, or after the MOM has said that it holds the caller.
func BenchmarkHandOff(b *testing.B) {
	const procedure, task = "/" + faultService + "/Get", "holdline-task: " + faultService + ".0.01JD3Z0000000000000000000A"
	ofHandle := []string{task, "location: /v1/tasks/" + faultService + ".0.01JD3Z0000000000000000000A", "retry-after: 1", "cache-control: no-store", "preference-applied: respond-async"}
	kept := []string{":status: 103", task, "holdline-expires: 2026-11-27T12:00:00.123Z"}
	grpc, json := slices.Concat(grpcHead, ofHandle), slices.Concat([]string{":status: 202", "content-type: application/json", "content-length: 2", "date: Fri, 27 Nov 2026 12:00:00 GMT"}, ofHandle)
	for _, c := range []struct {
		name, asks string
		call       func(b *testing.B, url, procedure, asks string)
		answer     saying
	}{
		{"handle/gRPC", "prefer: respond-async", callAlike, saying{head: grpc, trailers: []string{"grpc-status: 4", "grpc-message: accepted"}}},
		{"handle/HTTP1", "Prefer: respond-async", callAlike1, saying{head: json, body: "{}"}},
		{"keyed/gRPC", "idempotency-key: a-key", callAlike, saying{head: slices.Concat(grpcHead, []string{task}), body: message, trailers: []string{"grpc-status: 0"}}},
		{"keyed/HTTP1", "Idempotency-Key: a-key", callAlike1, saying{head: []string{":status: 200", "content-type: application/json", "content-length: 2", task}, body: "{}"}},
		{"held/gRPC", "idempotency-key: a-key", callAlike, saying{early: kept, head: slices.Concat(grpcHead, []string{task}), body: message, trailers: []string{"grpc-status: 0"}}},
		{"held/HTTP1", "Idempotency-Key: a-key", callAlike1, saying{early: kept, head: []string{":status: 200", "content-type: application/json", "content-length: 2", task}, body: "{}"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.call(b, frontMOM(b, "http://127.0.0.1:1", listenAs(b, answersAlike(c.answer))), procedure, c.asks)
		})
	}
}

// grpcHead begins an answer of gRPC.
var grpcHead = []string{":status: 200", "content-type: application/grpc"}

// callAlike makes calls of gRPC with one more header.
func callAlike(b *testing.B, url, procedure, asks string) {
	b.Helper()
	conn := connectTo(b, url)
	_, _ = io.WriteString(conn, http2.ClientPreface)
	requests, answers := newAlike(conn, saying{body: message, head: []string{
		":method: POST", ":scheme: http", ":authority: gateway", ":path: " + procedure, "content-type: application/grpc", "te: trailers",
		"user-agent: benchmark", asks, "authorization: Bearer " + strings.Repeat("a", 100),
	}}), newEnds(conn)
	id := uint32(1)
	measure(b, func() bool {
		requests.send(id)
		id += 2
		return answers.next() == id-2
	})
}

// callAlike1 is the same in Connect over HTTP/1.1.
func callAlike1(b *testing.B, url, procedure, asks string) {
	b.Helper()
	conn := connectTo(b, url)
	request := []byte("POST " + procedure + " HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 2\r\n" +
		"User-Agent: benchmark\r\n" + asks + "\r\nAuthorization: Bearer " + strings.Repeat("a", 100) + "\r\n\r\n{}")
	answer := make([]byte, 4096)
	measure(b, func() bool {
		_, _ = conn.Write(request)
		n, _ := conn.Read(answer)
		return bytes.HasSuffix(answer[:n], []byte("\r\n\r\n{}"))
	})
}

// listenAs serves connections, each with a goroutine of its own.
func listenAs(b *testing.B, serve func(net.Conn)) (addr string) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return ln.Addr().String()
}

// connectTo connects to a gateway.
func connectTo(b *testing.B, url string) net.Conn {
	b.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return conn
}

// measure makes calls, which tell whether they were answered.
func measure(b *testing.B, call func() bool) {
	b.Helper()
	answered := true
	for range 50 { // the tables of headers fill, and a connection to the service is opened
		answered = answered && call()
	}
	b.ReportAllocs()
	for answered && b.Loop() {
		answered = call()
	}
	if !answered {
		b.Fatal("no answer")
	}
}

// answerAlike1 is a service that answers all requests of a connection over HTTP/1.1 alike.
func answerAlike1(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Fri, 27 Nov 2026 12:00:00 GMT\r\nContent-Length: 2\r\n\r\n{}")
	request := make([]byte, 4096)
	for n, err := conn.Read(request); err == nil; n, err = conn.Read(request) {
		if bytes.HasPrefix(request[:n], []byte("PRI ")) { // the gateway asks for its health
			return
		}
		_, _ = conn.Write(answer)
	}
}

// answersAlike is the same over HTTP/2, for a service or a MOM that says this.
func answersAlike(answer saying) func(net.Conn) {
	return func(conn net.Conn) {
		defer func() { _ = conn.Close() }()
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		requests, answers := newEnds(conn), newAlike(conn, answer)
		for id := requests.next(); id != 0; id = requests.next() {
			answers.send(id)
		}
	}
}

// saying is what one end says on a stream: an informational response, if any, a head, a body, and trailers, if any.
type saying struct {
	early, head []string
	body        string
	trailers    []string
}

// alike says the same again and again.
type alike struct {
	conn        net.Conn
	first, rest []byte // the first time it fills the table of headers
}

func newAlike(conn net.Conn, says saying) *alike {
	var frames, block bytes.Buffer
	framer, encoder := http2.NewFramer(&frames, nil), hpack.NewEncoder(&block)
	headers := func(fields []string, end bool) {
		if len(fields) == 0 {
			return
		}
		block.Reset()
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			_ = encoder.WriteField(hpack.HeaderField{Name: name, Value: value})
		}
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
	}
	write := func() []byte {
		frames.Reset()
		headers(says.early, false)
		headers(says.head, false)
		if says.body != "" {
			_ = framer.WriteData(1, says.trailers == nil, []byte(says.body))
		}
		headers(says.trailers, true)
		return bytes.Clone(frames.Bytes())
	}
	_ = framer.WriteSettings()
	_ = framer.WriteWindowUpdate(0, 1<<30)
	_, _ = conn.Write(frames.Bytes())
	return &alike{conn, write(), write()}
}

const headOfFrame = 9

// send sends it on a stream.
func (a *alike) send(id uint32) {
	for at := 0; at < len(a.first); at += headOfFrame + lengthOf(a.first[at:]) {
		binary.BigEndian.PutUint32(a.first[at+5:], id)
	}
	_, _ = a.conn.Write(a.first)
	a.first = a.rest
}

func lengthOf(frame []byte) int { return int(frame[0])<<16 | int(frame[1])<<8 | int(frame[2]) }

// ends tells which streams end.
type ends struct {
	conn   net.Conn
	buffer [32 << 10]byte
	unread []byte
}

func newEnds(conn net.Conn) *ends { return &ends{conn: conn} }

// next is the stream that ends next; 0: the connection does.
func (e *ends) next() uint32 {
	for {
		for len(e.unread) >= headOfFrame && len(e.unread) >= headOfFrame+lengthOf(e.unread) {
			frame := e.unread
			e.unread = e.unread[headOfFrame+lengthOf(frame):]
			kind, ends := http2.FrameType(frame[3]), frame[4]&byte(http2.FlagDataEndStream) != 0
			if ends && (kind == http2.FrameData || kind == http2.FrameHeaders) {
				return binary.BigEndian.Uint32(frame[5:])
			}
		}
		kept := copy(e.buffer[:], e.unread)
		n, err := e.conn.Read(e.buffer[kept:])
		if e.unread = e.buffer[:kept+n]; err != nil {
			return 0
		}
	}
}
