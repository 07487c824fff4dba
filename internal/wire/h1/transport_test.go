package h1_test

import (
	"bufio"
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

	"holdline/internal/wire"
	"holdline/internal/wire/h1"
)

func newTransport(tb testing.TB) *h1.Transport {
	tb.Helper()
	t := &h1.Transport{
		Dialer: wire.Dialer{Dial: new(net.Dialer).DialContext, HandshakeTimeout: time.Second}, ExpectTimeout: time.Second, IdleTimeout: time.Minute, MaxIdle: 10,
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

// Bodies of any size pass both ways, at hand or not, with headers and trailers, on connections that are used again.
func TestBodies(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	from := map[string]bool{}
	transport, url := over(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from[r.RemoteAddr] = true
		mu.Unlock()
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		w.Header().Set("Color", r.Header.Get("Color"))
		w.Header().Set("Trailer", "Weight")
		n, _ := io.Copy(w, r.Body)
		w.Header().Set("Weight", fmt.Sprint(n))
	})
	for _, size := range []int{0, 1, 100, 16 << 10, 16<<10 + 1, 100_000, 3 << 20} {
		for _, known := range []bool{true, false} {
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
				t.Fatalf("%d bytes: %v", size, err)
			}
			got, err := io.ReadAll(res.Body)
			if err != nil || !bytes.Equal(got, sent) || res.Header.Get("Color") != "red" || res.Trailer.Get("Weight") != fmt.Sprint(size) {
				t.Errorf("%d bytes, known %v: got %d bytes, %v, %v, %v", size, known, len(got), err, res.Header, res.Trailer)
			}
			if err := res.Body.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(from) > 4 {
		t.Errorf("got %d connections", len(from))
	}
}

var errEnough = errors.New("enough")

// A request that is cancelled ends at once at both sides, before and after its head.
func TestCancel(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 2)
	transport, url := over(t, func(w http.ResponseWriter, r *http.Request) {
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

// 1xx are told before the head, and 100 is waited for.
func TestInformational(t *testing.T) {
	t.Parallel()
	transport, url := over(t, func(w http.ResponseWriter, r *http.Request) {
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
		res, err := transport.RoundTrip(request(t.Context(), t, "http://"+ln.Addr().String(), nil))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != "ok" {
			t.Errorf("got %q, %v", got, err)
		}
		<-served
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
	res, err := transport.RoundTrip(request(t.Context(), t, url, reading))
	if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Fatalf("got %v, %v", res, err)
	}
	_ = res.Body.Close()
}

// What cannot be sent is not sent.
func TestUnsendable(t *testing.T) {
	t.Parallel()
	transport, url := over(t, func(http.ResponseWriter, *http.Request) {})
	req := request(t.Context(), t, url, nil)
	req.Header["Color"] = []string{"a\nb"}
	if _, err := transport.RoundTrip(req); !errors.Is(err, wire.ErrHeaderInvalid) {
		t.Errorf("got %v", err)
	}
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
		res, err := transport.RoundTrip(request(t.Context(), t, server.URL, nil))
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
