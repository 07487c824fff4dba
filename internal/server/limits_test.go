package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/server"
	"holdline/internal/server/servertest"
)

// listen runs a server until the test ends. Without a handler, it answers "ok".
func listen(tb testing.TB, limits server.Limits, handler http.HandlerFunc) (addr string) {
	tb.Helper()
	if handler == nil {
		handler = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }
	}
	addr, _ = servertest.Run(tb, server.Config{Handler: handler, Limits: limits})
	return addr
}

func dial(tb testing.TB, addr string) net.Conn {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// fine checks that the server still serves.
func fine(t *testing.T, addr string) {
	t.Helper()
	conn := dial(t, addr)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("the server no longer serves: %v", err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("status = %d, want 200", res.StatusCode)
	}
}

// The server closes a connection whose headers do not come in time.
func TestSlowHeaders(t *testing.T) {
	t.Parallel()
	addr := listen(t, server.Limits{HeaderTimeout: 50 * time.Millisecond}, nil)
	conn := dial(t, addr)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost:")
	if raw, err := io.ReadAll(conn); err != nil {
		t.Errorf("got %q, %v; want the end of the connection", raw, err)
	}
	fine(t, addr)
}

func TestHeaderFlood(t *testing.T) {
	t.Parallel()
	addr := listen(t, server.Limits{HeaderBytes: 8 << 10}, nil)
	conn := dial(t, addr)
	_, _ = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 32<<10))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status = %d, want 431", res.StatusCode)
	}
	fine(t, addr)
}

// Streams that are opened and reset at once do not make more handlers run than the limit of streams allows.
func TestRapidReset(t *testing.T) {
	t.Parallel()
	const streams = 10
	entered, leave := make(chan struct{}, 10_000), make(chan struct{})
	addr := listen(t, server.Limits{Streams: streams}, func(_ http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			entered <- struct{}{}
			<-leave
		}
	})
	conn := dial(t, addr)
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	_ = framer.WriteSettings()
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/"}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	for id := uint32(1); id < 2000; id += 2 {
		if framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true}) != nil ||
			framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break // the server has closed the connection
		}
	}
	fine(t, addr)
	close(leave)
	if got := len(entered); got > streams {
		t.Errorf("%d handlers ran at once, want %d at most", got, streams)
	}
}

// A connection beyond the limit ends in order, without a reset.
func TestConnections(t *testing.T) {
	t.Parallel()
	addr := listen(t, server.Limits{Connections: 1}, nil)
	first := dial(t, addr)
	_, _ = io.WriteString(first, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(first), nil); err != nil {
		t.Fatal(err)
	}
	second := dial(t, addr)
	_, _ = io.WriteString(second, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	_ = first.Close()
	if _, err := io.ReadAll(second); err != nil {
		t.Errorf("the second connection: %v", err)
	}
}

// If a caller with calls in flight answers no ping, the server ends its connection and its calls.
func TestDeadCaller(t *testing.T) {
	t.Parallel()
	left := make(chan struct{})
	addr := listen(t, server.Limits{IdleTimeout: 50 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			<-r.Context().Done()
			close(left)
		}
	})
	conn := dial(t, addr)
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	_ = framer.WriteSettings()
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/"}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true})
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("got %v; want the end of the connection", err)
	}
	<-left
}
