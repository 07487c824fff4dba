package h1_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"holdline/internal/wire"
	"holdline/internal/wire/wiretest"
)

// say is a server that says the same on each connection, to the first request, and then closes.
func say(tb testing.TB, words func() string) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ended := make(chan struct{})
	tb.Cleanup(func() { _ = ln.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(c, words())
			}
			_ = c.Close()
		}
	}()
	return "http://" + ln.Addr().String()
}

// An answer that is cut anywhere is never taken for a whole one.
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	for _, whole := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nColor: red\r\n\r\nhello",
		"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nWeight: 1\r\n\r\n",
	} {
		left := 0
		transport, url := newTransport(t), say(t, func() string { return whole[:left] })
		for ; left < len(whole); left++ {
			if got, err := wiretest.Try(t, transport, url); err == nil {
				t.Errorf("after %q: got %q, want an error", whole[:left], got)
			}
		}
		if got, err := wiretest.Try(t, transport, url); got != "hello" || err != nil {
			t.Errorf("got %q, %v of the whole answer", got, err)
		}
	}
}

// A server that does not keep to the protocol gets an error, and bounded memory.
func TestMalformed(t *testing.T) {
	t.Parallel()
	for _, words := range []string{
		"HTTP/1.1 OK\r\n\r\n", "HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/2.0 200 OK\r\nColor red\r\n\r\n", "\x00\x00\x12\x04\x00\x00\x00\x00\x00",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n\r\n",
		"HTTP/1.1 200 OK\r\nColor: " + strings.Repeat("red", 1<<20) + "\r\n\r\n",
		strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100),
	} {
		if got, err := wiretest.Try(t, newTransport(t), say(t, func() string { return words })); err == nil {
			t.Errorf("%.60q: got %q, want an error", words, got)
		}
	}
}

// What comes after an answer is not taken for the next one, whether or not the call is plain.
func TestTooMuch(t *testing.T) {
	t.Parallel()
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
	n := 0
	transport, url := over(t, func(w http.ResponseWriter, r *http.Request) {
		if n++; r.URL.Path == "/fine" {
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, answer+"one"+answer+"two")
		_, _ = io.Copy(io.Discard, c) // until the client closes it
		_ = c.Close()
	})
	for range 3 {
		if got, err := wiretest.Try(t, transport, url); got != "one" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if n != 3 {
		t.Errorf("got %d connections, want 3", n)
	}
	if _, err := wiretest.Try(t, transport, url+"/fine"); err != nil {
		t.Fatal(err)
	}
	x := transport.Begin(&wire.Request{Authority: "a", Path: "/a"})
	if x == nil {
		t.Fatal("there was no connection")
	}
	if res := x.Whole(nil, 0); res == nil || string(res.Body) != "one" {
		t.Fatalf("got %v", res)
	}
	x.End()
	if transport.Begin(&wire.Request{Authority: "a", Path: "/a"}) != nil {
		t.Error("the connection is used again")
	}
}
