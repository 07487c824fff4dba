// Package wiretest has what tests of both clients of HTTP need, and the tests that both have to pass.
package wiretest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"holdline/internal/wire"
)

// Dialer dials whatever server there is.
func Dialer() wire.Dialer {
	return wire.Dialer{Dial: new(net.Dialer).DialContext, HandshakeTimeout: time.Second}
}

// Request is a POST.
func Request(ctx context.Context, tb testing.TB, url string, body io.Reader) *http.Request {
	tb.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		tb.Fatal(err)
	}
	return req
}

// atHand is a body that is read without waiting.
type atHand struct{ *bytes.Reader }

// Close implements io.Closer.
func (atHand) Close() error { return nil }

// Try sends one request with a body that is at hand, and tells what came of it: the body, or the error of the head or of the body.
func Try(tb testing.TB, transport http.RoundTripper, url string) (string, error) {
	tb.Helper()
	req := Request(tb.Context(), tb, url, nil)
	req.Body, req.ContentLength = atHand{bytes.NewReader([]byte("hello"))}, 5
	res, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// Sizes are those of bodies, in bytes: about one frame, one write and one window.
var Sizes = []int{0, 1, 100, 16 << 10, 16<<10 + 1, 100_000, 3 << 20}

// Echo is a server that answers with the request's body and color, and with the body's weight in a trailer.
func Echo(w http.ResponseWriter, r *http.Request) {
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Color", r.Header.Get("Color"))
	w.Header().Set("Trailer", "Weight")
	n, _ := io.Copy(w, r.Body)
	w.Header().Set("Weight", fmt.Sprint(n))
}

// TestEcho sends a body to Echo; known: it is at hand, and its length is announced.
func TestEcho(t *testing.T, transport http.RoundTripper, url string, size int, known bool) {
	t.Helper()
	sent := make([]byte, size)
	_, _ = rand.Read(sent)
	req := Request(t.Context(), t, url+"/a?b=c", nil)
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
}

var errEnough = errors.New("enough")

// Test runs the tests that every client has to pass. over makes a server of a handler, and a client of that.
func Test(t *testing.T, over func(testing.TB, http.HandlerFunc) (http.RoundTripper, string)) {
	t.Helper()
	// A request that is cancelled ends at once at both sides, before and after its head.
	t.Run("cancel", func(t *testing.T) {
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
		if _, err := transport.RoundTrip(Request(ctx, t, url, nil)); !errors.Is(err, errEnough) {
			t.Errorf("before the head: got %v", err)
		}
		<-ended
		ctx, cancel = context.WithCancelCause(t.Context())
		res, err := transport.RoundTrip(Request(ctx, t, url+"/head", nil))
		if err != nil {
			t.Fatal(err)
		}
		cancel(errEnough)
		if _, err := io.ReadAll(res.Body); !errors.Is(err, errEnough) {
			t.Errorf("after the head: got %v", err)
		}
		<-ended
	})
	// 1xx are told before the head, and 100 is waited for.
	t.Run("informational", func(t *testing.T) {
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
		req := Request(ctx, t, url, io.NopCloser(strings.NewReader("hello")))
		req.Header.Set("Expect", "100-continue")
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != "hello" || fmt.Sprint(codes) != "[100 103]" {
			t.Errorf("got %q, %v, after %v", got, err, codes)
		}
	})
	t.Run("invalid header", func(t *testing.T) {
		t.Parallel()
		transport, url := over(t, func(http.ResponseWriter, *http.Request) { t.Error("the request was sent") })
		req := Request(t.Context(), t, url, nil)
		req.Header["Color"] = []string{"a\nb"}
		if _, err := transport.RoundTrip(req); !errors.Is(err, wire.ErrHeaderInvalid) {
			t.Errorf("got %v", err)
		}
	})
}
