package server_test

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/grpchealth"

	"holdline/internal/server"
	"holdline/internal/server/servertest"
	"holdline/internal/upstream"
)

// logBuffer is a log. It is safe for concurrent use.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) count(words string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.buf.String(), words)
}

// healthy asks for the server's health as `holdline healthcheck` does.
func healthy(tb testing.TB, addr string) bool {
	tb.Helper()
	pool := upstream.NewPool(upstream.Config{Service: "", Endpoints: []*url.URL{{Scheme: "http", Host: addr}}, Log: slog.New(slog.DiscardHandler)})
	defer pool.Close()
	return pool.Healthy(tb.Context())
}

// occupy opens a connection, makes a call on it, and leaves the connection open.
func occupy(tb testing.TB, addr string) net.Conn {
	tb.Helper()
	conn := dial(tb, addr)
	get1(tb, conn)
	return conn
}

// get1 makes a call over HTTP/1.1 that is no plain one.
func get1(tb testing.TB, conn net.Conn) {
	tb.Helper()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
		tb.Fatal(err)
	}
}

// A server that has reached its connection limit still answers health checks, however many callers connect.
// It refuses their calls with 503, and serves them again when a connection has ended. It logs once which
// flag raises the limit.
func TestFull(t *testing.T) {
	t.Parallel()
	const most = 3
	log := new(logBuffer)
	mux := server.Mux(connect.NewServer(), grpchealth.NewStaticChecker())
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	addr, _ := servertest.Run(t, server.Config{
		Handler: mux, Limits: server.Limits{Connections: most}, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	var within []net.Conn
	for range most {
		within = append(within, occupy(t, addr))
	}
	for range 5 {
		if !healthy(t, addr) {
			t.Error("a full server is not healthy")
		}
	}
	for name, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2.0": func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		body, status := get(t, &http.Transport{Protocols: protocols(set)}, "http://"+addr)
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "not executed") {
			t.Errorf("%s: one more call got %d %q, want 503", name, status, body)
		}
	}
	upload := dial(t, addr)
	_, _ = io.WriteString(upload, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n") // the rest never comes
	if res, err := http.ReadResponse(bufio.NewReader(upload), nil); err != nil || res.StatusCode != http.StatusServiceUnavailable || !res.Close {
		t.Errorf("an upload that stalls: %+v, %v; want 503, and the end of the connection", res, err)
	}
	for range 200 { // connections that send nothing
		dial(t, addr)
	}
	if !healthy(t, addr) {
		t.Error("with many who say nothing: a full server is not healthy")
	}
	if got := log.count("connection limit reached"); got != 1 || log.count("raise=--max-connections") != 1 {
		t.Errorf("logged %d times that the limit was reached, want once", got)
	}
	_ = within[0].Close()
	for {
		body, status := get(t, &http.Transport{}, "http://"+addr)
		if status == http.StatusOK {
			break
		}
		if status != http.StatusServiceUnavailable {
			t.Fatalf("with room again: %d %q", status, body)
		}
	}
}

// The server logs a warning when a connection has reached the limit of streams.
func TestStreamsAreFull(t *testing.T) {
	t.Parallel()
	const streams = 4
	log := new(logBuffer)
	entered, leave := make(chan struct{}), make(chan struct{})
	addr, _ := servertest.Run(t, server.Config{
		Limits: server.Limits{Streams: streams}, Logger: slog.New(slog.NewTextHandler(log, nil)),
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-leave }),
	})
	transport := &http.Transport{Protocols: protocols(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })}
	var calls sync.WaitGroup
	for i := range streams {
		calls.Go(func() { get(t, transport, "http://"+addr) })
		<-entered
		if got := log.count("raise=--max-streams"); (got == 1) != (i == streams-1) {
			t.Errorf("%d of %d streams: logged %d times", i+1, streams, got)
		}
	}
	close(leave)
	calls.Wait()
}

// A caller that sends on after an early answer gets no reset. The connection ends when the caller has ended
// it.
func TestEndsInOrder(t *testing.T) {
	t.Parallel()
	addr := listen(t, server.Limits{}, nil) // the handler reads no body
	for _, framing := range []string{"Content-Length: 4194304", "Transfer-Encoding: chunked"} {
		conn := dial(t, addr)
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\n"+framing+"\r\n\r\n")
		reader := bufio.NewReader(conn)
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != "ok" || err != nil || !res.Close {
			t.Errorf("%s: read %q, %v, told of the end: %t", framing, body, err, res.Close)
		}
		if _, err := conn.Write(make([]byte, 2<<20)); err != nil {
			t.Errorf("%s: caller could not send on: %v", framing, err)
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
			t.Errorf("%s: then read %q, %v; want the end", framing, rest, err)
		}
	}
}
