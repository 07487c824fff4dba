package h1_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"holdline/internal/wire/h1"
	"holdline/internal/wire/wiretest"
)

func newTransport(tb testing.TB) *h1.Transport {
	tb.Helper()
	t := &h1.Transport{
		Dialer: wiretest.Dialer(), ExpectTimeout: time.Second, IdleTimeout: time.Minute, MaxIdle: 10,
	}
	tb.Cleanup(t.CloseIdleConnections)
	return t
}

func over(tb testing.TB, handler http.HandlerFunc) (*h1.Transport, string) {
	tb.Helper()
	server := httptest.NewServer(handler)
	tb.Cleanup(server.Close)
	return newTransport(tb), server.URL
}

// Bodies of any size pass both ways, at hand or not, with headers and trailers, on connections that are used again.
func TestBodies(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	from := map[string]bool{}
	transport, url := over(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from[r.RemoteAddr] = true
		mu.Unlock()
		wiretest.Echo(w, r)
	})
	for _, size := range wiretest.Sizes {
		for _, known := range []bool{true, false} {
			wiretest.TestEcho(t, transport, url, size, known)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if most := len(wiretest.Sizes); len(from) > most { // an answer that ends before its request has been sent takes a connection along
		t.Errorf("got %d connections, want at most %d", len(from), most)
	}
}

// A connection that the server has closed is not used again.
func TestClosedWhileIdle(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	served := make(chan struct{})
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
			_ = c.Close()
			served <- struct{}{}
		}
	}()
	transport := newTransport(t)
	for range 10 {
		res, err := transport.RoundTrip(wiretest.Request(t.Context(), t, "http://"+ln.Addr().String(), nil))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != "ok" {
			t.Errorf("got %q, %v", got, err)
		}
		<-served
	}
}

// A connection is not used when its server may be about to close it.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	for said, kept := range map[string]bool{"": true, "timeout=100, max=5": true, "max=1": true, "timeout=soon": true, "timeout=1": false, "max=5, Timeout=1": false, "timeout=0": false} {
		var from []string
		transport, url := over(t, func(w http.ResponseWriter, r *http.Request) {
			from = append(from, r.RemoteAddr)
			if said != "" {
				w.Header().Set("Keep-Alive", said)
			}
		})
		for range 2 {
			if _, err := wiretest.Try(t, transport, url); err != nil {
				t.Fatal(err)
			}
		}
		if (from[0] == from[1]) != kept {
			t.Errorf("Keep-Alive: %s: the connection was used again: %t, want %t", said, !kept, kept)
		}
	}
}

// A server may answer what it does not read.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	transport, url := over(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) })
	reading, writing := io.Pipe()
	defer func() { _ = writing.Close() }()
	go func() {
		for _, err := writing.Write(make([]byte, 64<<10)); err == nil; _, err = writing.Write(make([]byte, 64<<10)) {
		}
	}()
	res, err := transport.RoundTrip(wiretest.Request(t.Context(), t, url, reading))
	if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Fatalf("got %v, %v", res, err)
	}
	_ = res.Body.Close()
}

func TestWire(t *testing.T) {
	t.Parallel()
	wiretest.Test(t, func(tb testing.TB, handler http.HandlerFunc) (http.RoundTripper, string) { return over(tb, handler) })
}

// A connection over TLS is used again, too.
func TestTLS(t *testing.T) {
	t.Parallel()
	from := map[string]bool{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from[r.RemoteAddr] = true
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(server.Close)
	transport := newTransport(t)
	transport.TLS = server.Client().Transport.(*http.Transport).TLSClientConfig
	for range 3 {
		res, err := transport.RoundTrip(wiretest.Request(t.Context(), t, server.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != "ok" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if len(from) != 1 {
		t.Errorf("got %d connections, want one", len(from))
	}
}
