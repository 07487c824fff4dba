package h2_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"holdline/internal/wire"
	"holdline/internal/wire/h2"
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
		Dialer: wire.Dialer{Dial: new(net.Dialer).DialContext, HandshakeTimeout: time.Second}, ExpectTimeout: time.Second, IdleTimeout: time.Minute,
	}
}

func request(ctx context.Context, tb testing.TB, url string, body io.Reader) *http.Request {
	tb.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		tb.Fatal(err)
	}
	return req
}

// atHand is a body that is read without waiting.
type atHand struct{ *bytes.Reader }

func (atHand) Close() error { return nil }

// Bodies of any size pass both ways, at hand or not, one beside another, with headers and trailers.
func TestBodies(t *testing.T) {
	t.Parallel()
	transport, url := over(t, 0, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Color", r.Header.Get("Color"))
		w.Header().Set("Trailer", "Weight")
		n, _ := io.Copy(w, r.Body)
		w.Header().Set("Weight", fmt.Sprint(n))
	})
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, size := range []int{0, 1, 100, 16 << 10, 16<<10 + 1, 100_000, 3 << 20} {
		for _, known := range []bool{true, false} {
			wg.Go(func() {
				sent := make([]byte, size)
				_, _ = rand.Read(sent)
				req := request(t.Context(), t, url+"/a?b=c", nil)
				req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(sent)), -1
				if known {
					req.Body, req.ContentLength = atHand{bytes.NewReader(sent)}, int64(size)
				}
				req.Header.Set("Color", "red")
				res, err := transport.RoundTrip(req)
				if err != nil {
					t.Errorf("%d bytes: %v", size, err)
					return
				}
				got, err := io.ReadAll(res.Body)
				if err != nil || !bytes.Equal(got, sent) || res.Header.Get("Color") != "red" || res.Trailer.Get("Weight") != fmt.Sprint(size) {
					t.Errorf("%d bytes, known %v: got %d bytes, %v, %v, %v", size, known, len(got), err, res.Header, res.Trailer)
				}
				if err := res.Body.Close(); err != nil {
					t.Error(err)
				}
			})
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
	res, err := transport.RoundTrip(request(t.Context(), t, url, reading))
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
		res, err := transport.RoundTrip(request(t.Context(), t, url+"/endless", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
	}
	for range 10 {
		res, err := transport.RoundTrip(request(t.Context(), t, url, nil))
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
		return request(t.Context(), t, url, nil)
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
	res, err := transport.RoundTrip(request(tb.Context(), tb, url, nil))
	if err != nil {
		tb.Error(err)
		return
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		tb.Error(err)
	}
	_ = res.Body.Close()
}

var errEnough = errors.New("enough")

// A request that is cancelled ends at once at both sides, before and after its head.
func TestCancel(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 2)
	transport, url := over(t, 0, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/head" {
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		ended <- struct{}{}
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(10*time.Millisecond, func() { cancel(errEnough) })
	if _, err := transport.RoundTrip(request(ctx, t, url, nil)); !errors.Is(err, errEnough) {
		t.Errorf("before the head: got %v", err)
	}
	<-ended
	ctx, cancel = context.WithCancelCause(t.Context())
	res, err := transport.RoundTrip(request(ctx, t, url+"/head", nil))
	if err != nil {
		t.Fatal(err)
	}
	cancel(errEnough)
	if _, err := io.ReadAll(res.Body); !errors.Is(err, errEnough) {
		t.Errorf("after the head: got %v", err)
	}
	<-ended
}

// What the server has not touched is told from what it may have.
func TestReset(t *testing.T) {
	t.Parallel()
	transport, url := over(t, 0, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_, err := transport.RoundTrip(request(t.Context(), t, url, nil))
	var reset http2.StreamError
	if !errors.As(err, &reset) || reset.Code != http2.ErrCodeInternal {
		t.Errorf("got %v, want INTERNAL_ERROR", err)
	}
}

// 1xx are told before the head, and 100 is waited for.
func TestInformational(t *testing.T) {
	t.Parallel()
	transport, url := over(t, 0, func(w http.ResponseWriter, r *http.Request) {
		said, _ := io.ReadAll(r.Body)
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = w.Write(said)
	})
	var codes []int
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		if codes = append(codes, code); code == http.StatusEarlyHints && header.Get("Link") != "</a>" {
			t.Errorf("got %v", header)
		}
		return nil
	}})
	req := request(ctx, t, url, io.NopCloser(strings.NewReader("hello")))
	req.Header.Set("Expect", "100-continue")
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(res.Body); err != nil || string(got) != "hello" || fmt.Sprint(codes) != "[100 103]" {
		t.Errorf("got %q, %v, after %v", got, err, codes)
	}
}

// What cannot be sent is not sent.
func TestUnsendable(t *testing.T) {
	t.Parallel()
	transport, url := over(t, 0, func(http.ResponseWriter, *http.Request) {})
	get(t, transport, url)
	req := request(t.Context(), t, url, nil)
	req.Header["Color"] = []string{"a\nb"}
	if _, err := transport.RoundTrip(req); !errors.Is(err, wire.ErrHeaderInvalid) {
		t.Errorf("got %v", err)
	}
	req.Header["Color"] = []string{strings.Repeat("red", 1<<20)}
	if _, err := transport.RoundTrip(req); !errors.Is(err, h2.ErrHeadersTooLarge) {
		t.Errorf("got %v", err)
	}
	req.Header["Color"] = []string{strings.Repeat("red", 20_000)} // of several frames
	if res, err := transport.RoundTrip(req); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("got %v, %v", res, err)
	}
}
