package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// wire is a service that keeps each connection's bytes as they came, and
// answers what is a request.
type wire struct {
	addr  string
	mu    sync.Mutex
	bytes []*bytes.Buffer
}

func newWire(tb testing.TB) *wire {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &wire{addr: ln.Addr().String()}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			came := new(bytes.Buffer)
			s.mu.Lock()
			s.bytes = append(s.bytes, came)
			s.mu.Unlock()
			conns.Go(func() {
				defer func() { _ = conn.Close() }()
				s.answer(conn, came)
			})
		}
	})
	tb.Cleanup(func() {
		_ = ln.Close()
		conns.Wait()
	})
	return s
}

func (s *wire) answer(conn net.Conn, came *bytes.Buffer) {
	reader := bufio.NewReader(io.TeeReader(conn, &locked{&s.mu, came}))
	for {
		req, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
			return
		}
	}
}

type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// all is what came on all connections.
func (s *wire) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all strings.Builder
	for _, b := range s.bytes {
		all.Write(b.Bytes())
	}
	return all.String()
}

// send writes bytes to the gateway and reads until it closes the connection.
func send(tb testing.TB, url, raw string) (answer string) {
	tb.Helper()
	conn, err := new(net.Dialer).DialContext(tb.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(tb.Context(), func() { _ = conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second)) // else what waits for more waits for ever
	if _, err := io.WriteString(conn, raw); err != nil {
		tb.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, io.EOF) && len(all) == 0 {
		tb.Fatalf("no answer: %v", err)
	}
	return string(all)
}

// Whatever is sent to confuse two servers about where a request ends, the
// service sees what the gateway saw: one request, framed once, or none.
func TestOneRequestIsOneRequest(t *testing.T) {
	t.Parallel()
	const (
		refused  = ""
		chunked  = "Transfer-Encoding: chunked\r\n"
		hello    = "5\r\nhello\r\n0\r\n\r\n"
		smuggled = "POST " + repeatable + " HTTP/1.1\r\nHost: smuggled\r\nContent-Length: 0\r\n\r\n"
	)
	head := func(fields string) string { return "POST PATH HTTP/1.1\r\nHost: service\r\n" + fields + "\r\n" }
	for _, c := range []struct {
		name, raw string
		body      string // what the service reads, "" when the request is refused
	}{
		{"a length", head("Content-Length: 5\r\n") + "hello", "hello"},
		{"chunks", head(chunked) + hello, "hello"},
		{"chunks and a length", head("Content-Length: 3\r\n"+chunked) + hello, "hello"},
		{"a length and chunks, hidden request", head(chunked+fmt.Sprintf("Content-Length: %d\r\n", len(hello)+len(smuggled))) + hello, "hello"},
		{"two lengths, the same", head("Content-Length: 5\r\nContent-Length: 5\r\n") + "hello", "hello"},
		{"two lengths", head("Content-Length: 5\r\nContent-Length: 0\r\n") + "hello", refused},
		{"two lengths in one field", head("Content-Length: 5, 0\r\n") + "hello", refused},
		{"a signed length", head("Content-Length: +5\r\n") + "hello", refused},
		{"a negative length", head("Content-Length: -5\r\n") + "hello", refused},
		{"chunked twice", head(chunked+chunked) + hello, refused},
		{"chunked, and then not", head("Transfer-Encoding: chunked, identity\r\n") + hello, refused},
		{"another coding", head("Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n") + "hello", refused},
		{"a space before the colon", head("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n") + "hello", refused},
		{"a space before the name", head(" Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") + "hello", refused},
		{"a folded line", head("X-Fold: one\r\n "+chunked+"Content-Length: 5\r\n") + "hello", "hello"},
		{"bare line feeds", strings.ReplaceAll(head("Content-Length: 5\r\n"), "\r\n", "\n") + "hello", "hello"},
		{"a bare carriage return", head("X-Bare: one\r"+chunked+"Content-Length: 5\r\n") + "hello", refused},
		{"a zero byte", head("X-Zero: a\x00b\r\nContent-Length: 5\r\n") + "hello", refused},
		{"chunk extensions", head(chunked) + "5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n", "hello"},
		{"no host", strings.Replace(head("Content-Length: 5\r\n"), "Host: service\r\n", "", 1) + "hello", refused},
		{"two hosts", head("Host: other\r\nContent-Length: 5\r\n") + "hello", refused},
		{"absolute form", strings.Replace(head("Content-Length: 5\r\n"), "PATH", "http://other.example:99PATH", 1) + "hello", "hello"},
		{"a request in the path", strings.Replace(head("Content-Length: 5\r\n"), "PATH", "PATH?a=%20HTTP/1.1%0d%0aHost:%20smuggled%0d%0a", 1) + "hello", "hello"},
		{"trailers", head("Trailer: X-After\r\n"+chunked) + "5\r\nhello\r\n0\r\nX-After: a\r\nHoldline-Caller: forged\r\nContent-Length: 99\r\n" + "Transfer-Encoding: chunked\r\n\r\n", "hello"},
		{"a tunnel", strings.Replace(head("Content-Length: 5\r\n"), "POST", "CONNECT", 1) + "hello", refused},
	} {
		for _, path := range []string{repeatable, streaming} {
			t.Run(c.name+path, func(t *testing.T) {
				t.Parallel()
				service := newWire(t)
				url := front(t, service.addr)
				// The last request tells where the gateway believes the first to end.
				answer := send(t, url, strings.Replace(c.raw, "PATH", path, 1)+"GET /end HTTP/1.1\r\nHost: end\r\nConnection: close\r\n\r\n")
				came := service.all()
				if c.body == refused {
					if came != "" {
						t.Errorf("service saw\n%s", came)
					}
					if !strings.HasPrefix(answer, "HTTP/1.1 4") && !strings.HasPrefix(answer, "HTTP/1.1 501") {
						t.Errorf("caller saw\n%s", answer)
					}
					return
				}
				if !strings.HasPrefix(answer, "HTTP/1.1 200") {
					t.Errorf("caller saw\n%s", answer)
				}
				wellFormed(t, came, c.body)
			})
		}
	}
}

// wellFormed checks that what came is one request with this body, without a
// byte of doubt.
func wellFormed(tb testing.TB, came, body string) {
	tb.Helper()
	head, _, _ := strings.Cut(came, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	if !strings.HasPrefix(lines[0], "POST /") || strings.ContainsAny(head, "\x00") || strings.Contains(strings.ReplaceAll(head, "\r\n", ""), "\n") {
		tb.Errorf("service saw\n%s", came)
	}
	framed := 0
	for _, line := range lines[1:] {
		name, _, ok := strings.Cut(line, ": ")
		if !ok || strings.TrimSpace(name) != name {
			tb.Errorf("service saw the line %q", line)
		}
		switch name {
		case "Content-Length", "Transfer-Encoding":
			framed++
		case "Host":
		default:
			if name != "X-Fold" {
				tb.Errorf("service saw %s", line)
			}
		}
	}
	if framed != 1 {
		tb.Errorf("service saw %d lengths:\n%s", framed, came)
	}
	reader := bufio.NewReader(strings.NewReader(came))
	req, err := http.ReadRequest(reader)
	if err != nil {
		tb.Fatalf("service saw\n%s\n%v", came, err)
	}
	got, err := io.ReadAll(req.Body)
	if err != nil || string(got) != body || len(req.Trailer) > 0 {
		tb.Errorf("service read %q, trailers %v, %v; want %q", got, req.Trailer, err, body)
	}
	if rest, _ := io.ReadAll(reader); len(rest) > 0 {
		tb.Errorf("service saw more than one request:\n%s", rest)
	}
}

// No trailer of a caller reaches the service, and none of a service's frames
// or controls what the caller reads.
func TestTrailers(t *testing.T) {
	t.Parallel()
	t.Run("request", func(t *testing.T) {
		t.Parallel()
		both(t, func(t *testing.T, major int, client *http.Client) {
			seen := make(chan http.Header, 1)
			url := behind(t, func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				seen <- r.Trailer
			})
			for _, path := range []string{repeatable, streaming} {
				req := request(t, url+path, io.MultiReader(strings.NewReader("{}")))
				req.Trailer = http.Header{"Holdline-Caller": {"forged"}, "X-After": {"a"}}
				if major == 1 { // HTTP/2 refuses it
					req.Trailer["Connection"] = []string{"close"}
				}
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close()
				if got := <-seen; len(got) > 0 {
					t.Errorf("%s: service saw trailers %v", path, got)
				}
			}
		})
	})
	t.Run("response", func(t *testing.T) {
		t.Parallel()
		url := front(t, raw(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"+
			"X-After: kept\r\nConnection: X-Hop\r\nX-Hop: hop\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n"))
		for _, path := range []string{repeatable, streaming} {
			res, err := client(t, 1).Do(request(t, url+path, strings.NewReader("{}")))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || string(got) != "ok" || len(res.Trailer) != 1 || res.Trailer.Get("X-After") != "kept" {
				t.Errorf("%s: got %q, trailers %v, %v", path, got, res.Trailer, err)
			}
		}
	})
}

// nginx takes a gRPC error with a length of 0 for one that has ended, and drops its trailers: neither ours have one, nor those of services.
func TestErrorsOfGRPCHaveNoLength(t *testing.T) {
	t.Parallel()
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { // net/http adds a length
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "5")
	}))
	service.Config.Protocols = new(http.Protocols)
	service.Config.Protocols.SetUnencryptedHTTP2(true)
	service.Start()
	t.Cleanup(service.Close)
	gateway := front(t, service.Listener.Addr().String())
	for name, test := range map[string]struct{ path, header, status string }{
		"a service's error":  {undeclared, "X-Any: a", "5"},
		"the same, streamed": {streaming, "X-Any: a", "5"},
		"a wrong header":     {undeclared, "Holdline-Ttl: abc", "3"},
		"no route":           {"/no.such.Service/Call", "X-Any: a", "12"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caller := client(t, 2)
			for range 3 { // the first one opens the connection to the service, and those behind it are plain
				req := request(t, gateway+test.path, strings.NewReader("\x00\x00\x00\x00\x00"), "Content-Type: application/grpc", "Te: trailers", test.header)
				res, err := caller.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if status := res.Trailer.Get("Grpc-Status"); status != test.status || res.ContentLength >= 0 {
					t.Errorf("status %q and a length of %d, want %q and none", status, res.ContentLength, test.status)
				}
			}
		})
	}
}

// A service that switches protocols unasked has not answered.
func TestSwitchedProtocols(t *testing.T) {
	t.Parallel()
	url := front(t, raw(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"))
	for _, path := range []string{repeatable, undeclared, streaming} {
		res, err := client(t, 1).Do(request(t, url+path, strings.NewReader("{}"), "Connection: Upgrade", "Upgrade: other", "Content-Type: application/json"))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode < http.StatusInternalServerError || res.Header.Get("Upgrade") != "" {
			t.Errorf("%s: got %d %v", path, res.StatusCode, res.Header)
		}
	}
}
