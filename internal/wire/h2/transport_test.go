package h2_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"holdline/internal/wire/h2"
	"holdline/internal/wire/wiretest"
)

// over is a client of a server of net/http that speaks HTTP/2 in clear text.
func over(tb testing.TB, limit int, handler http.HandlerFunc) (*h2.Transport, string) {
	tb.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: limit}
	server.Start()
	tb.Cleanup(server.Close)
	t := newTransport()
	tb.Cleanup(t.CloseIdleConnections)
	return t, server.URL
}

func newTransport() *h2.Transport {
	return &h2.Transport{
		Dialer: wiretest.Dialer(), ExpectTimeout: time.Second, IdleTimeout: time.Minute,
	}
}

// Bodies of any size pass both ways, at hand or not, one beside another, with headers and trailers.
func TestBodies(t *testing.T) {
	t.Parallel()
	transport, url := over(t, 0, wiretest.Echo)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, size := range wiretest.Sizes {
		for _, known := range []bool{true, false} {
			wg.Go(func() { wiretest.TestEcho(t, transport, url, size, known) })
		}
	}
}

// Both sides may speak at once. When the server has said all, the rest of the request is not sent.
func TestBothWays(t *testing.T) {
	t.Parallel()
	transport, url := over(t, 0, func(w http.ResponseWriter, r *http.Request) {
		part := make([]byte, 1)
		for range 3 {
			_, _ = io.ReadFull(r.Body, part)
			_, _ = w.Write(part)
			_ = http.NewResponseController(w).Flush()
		}
	})
	reading, writing := io.Pipe()
	go func() { _, _ = writing.Write([]byte("a")) }()
	res, err := transport.RoundTrip(wiretest.Request(t.Context(), t, url, reading))
	if err != nil {
		t.Fatal(err)
	}
	for i, letter := range []string{"a", "b", "c"} {
		part := make([]byte, 1)
		if _, err := io.ReadFull(res.Body, part); err != nil || string(part) != letter {
			t.Fatalf("got %q, %v, want %q", part, err, letter)
		}
		if i < 2 {
			if _, err := writing.Write([]byte{letter[0] + 1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v, want the end", rest, err)
	}
	for err = nil; err == nil; _, err = writing.Write([]byte("d")) {
	}
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want the body closed", err)
	}
}

// One who does not read his response stops no other, and the window bounds what waits for him.
func TestUnread(t *testing.T) {
	t.Parallel()
	transport, url := over(t, 0, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/endless" {
			for _, err := w.Write(make([]byte, 16<<10)); err == nil; _, err = w.Write(make([]byte, 16<<10)) {
			}
		}
	})
	for range 20 {
		res, err := transport.RoundTrip(wiretest.Request(t.Context(), t, url+"/endless", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
	}
	for range 10 {
		res, err := transport.RoundTrip(wiretest.Request(t.Context(), t, url, nil))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
}

// A server that takes few streams gets more connections.
func TestLimit(t *testing.T) {
	t.Parallel()
	const limit, all = 3, 10
	come, leave := make(chan string, all), make(chan struct{})
	transport, url := over(t, limit, func(_ http.ResponseWriter, r *http.Request) {
		come <- r.RemoteAddr
		<-leave
	})
	greeted, err := transport.RoundTrip(func() *http.Request {
		go func() { <-come; leave <- struct{}{} }()
		return wiretest.Request(t.Context(), t, url, nil)
	}())
	if err != nil {
		t.Fatal(err)
	}
	_ = greeted.Body.Close()
	var wg sync.WaitGroup
	for range limit {
		wg.Go(func() { get(t, transport, url) })
	}
	from := map[string]bool{}
	for range limit {
		from[<-come] = true
	}
	wg.Go(func() { get(t, transport, url) })
	from[<-come] = true
	if len(from) != 2 {
		t.Errorf("got %d connections, want 2", len(from))
	}
	close(leave)
	wg.Wait()
}

func get(tb testing.TB, transport http.RoundTripper, url string) {
	res, err := transport.RoundTrip(wiretest.Request(tb.Context(), tb, url, nil))
	if err != nil {
		tb.Error(err)
		return
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		tb.Error(err)
	}
	_ = res.Body.Close()
}

// What the server has not touched is told from what it may have.
func TestReset(t *testing.T) {
	t.Parallel()
	transport, url := over(t, 0, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_, err := transport.RoundTrip(wiretest.Request(t.Context(), t, url, nil))
	var reset http2.StreamError
	if !errors.As(err, &reset) || reset.Code != http2.ErrCodeInternal {
		t.Errorf("got %v, want INTERNAL_ERROR", err)
	}
}

func TestWire(t *testing.T) {
	t.Parallel()
	wiretest.Test(t, func(tb testing.TB, handler http.HandlerFunc) (http.RoundTripper, string) { return over(tb, 0, handler) })
}

// Headers that are more than the server takes are not sent; all others are, in several frames.
func TestLargeHeaders(t *testing.T) {
	t.Parallel()
	transport, url := over(t, 0, func(http.ResponseWriter, *http.Request) {})
	get(t, transport, url)
	req := wiretest.Request(t.Context(), t, url, nil)
	req.Header["Color"] = []string{strings.Repeat("red", 1<<20)}
	if _, err := transport.RoundTrip(req); !errors.Is(err, h2.ErrHeadersTooLarge) {
		t.Errorf("got %v", err)
	}
	req.Header["Color"] = []string{strings.Repeat("red", 20_000)} // of several frames
	if res, err := transport.RoundTrip(req); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("got %v, %v", res, err)
	}
}
