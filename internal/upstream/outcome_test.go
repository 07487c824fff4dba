package upstream_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"holdline/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen serves connections with a function until the test ends.
func listen(tb testing.TB, serve func(net.Conn)) *url.URL {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				serve(conn)
				_ = conn.Close()
			})
		}
	})
	tb.Cleanup(func() {
		_ = ln.Close()
		serving.Wait()
	})
	return &url.URL{Scheme: "http", Host: ln.Addr().String()}
}

// try makes one attempt over HTTP/1.1 and returns the outcome, and the body if
// there is a response.
func try(ctx context.Context, tb testing.TB, endpoint *url.URL, body string) (upstream.Outcome, string) {
	tb.Helper()
	pool := upstream.NewPool(upstream.Config{Service: "a.B", Endpoints: []*url.URL{endpoint}, Log: slog.New(slog.DiscardHandler)})
	defer pool.Close()
	res, outcome, _ := pool.Pick().Try(ctx, &upstream.Request{
		Method: http.MethodPost, URL: &url.URL{Path: "/a.B/C"}, HTTPMajor: 1, Header: http.Header{}, Body: []byte(body), Length: int64(len(body)), Look: true,
	})
	if res == nil {
		return outcome, ""
	}
	defer res.Drop()
	raw, err := io.ReadAll(res)
	if err != nil {
		tb.Fatal(err)
	}
	return outcome, string(raw)
}

// readRequest reads one whole request.
func readRequest(conn net.Conn) {
	if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
		_, _ = io.Copy(io.Discard, req.Body)
	}
}

// Whether the service can have the whole message decides between NotSent and
// Broken; what the error looks like does not.
func TestSentOrNotSent(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("x", 16<<20) // more than the kernel takes from us
	reset := func(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }
	for _, c := range []struct {
		name  string
		serve func(net.Conn)
		want  upstream.Kind
	}{
		{"reset at once", reset, upstream.NotSent},
		{"reset halfway", func(conn net.Conn) { _, _ = io.CopyN(io.Discard, conn, 1<<10); reset(conn) }, upstream.NotSent},
		{"closed after the request", readRequest, upstream.Broken},
		{"reset after the request", func(conn net.Conn) { readRequest(conn); reset(conn) }, upstream.Broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			endpoint := listen(t, c.serve)
			for range 20 {
				if got, _ := try(t.Context(), t, endpoint, body); got.Kind != c.want {
					t.Fatalf("outcome = %+v, want kind %d", got, c.want)
				}
			}
		})
	}
}

func TestNoConnection(t *testing.T) {
	t.Parallel()
	dead := listen(t, func(net.Conn) {})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Host = ln.Addr().String()
	_ = ln.Close()
	for want, endpoint := range map[string]*url.URL{
		"dial-refused": dead,
		"dns":          {Scheme: "http", Host: "no.such.host.invalid:1"},
		"tls":          {Scheme: "https", Host: listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 no TLS\r\n\r\n") }).Host},
	} {
		if got, _ := try(t.Context(), t, endpoint, "{}"); got != (upstream.Outcome{Kind: upstream.NotSent, Cause: want}) {
			t.Errorf("%s: outcome = %+v, want not sent for %s", endpoint, got, want)
		}
	}
}

func TestOurOwnEnd(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 2)
	endpoint := listen(t, func(conn net.Conn) {
		readRequest(conn)
		asked <- struct{}{}
		_, _ = conn.Read(make([]byte, 1)) // until the other side ends it
	})
	for cause, want := range map[error]upstream.Kind{
		upstream.ErrDeadline: upstream.DeadlineOver, upstream.ErrTryTimeout: upstream.Broken, context.Canceled: upstream.CallerLeft,
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-asked
			cancel(cause)
		}()
		if got, _ := try(ctx, t, endpoint, "{}"); got.Kind != want {
			t.Errorf("%v: outcome = %+v, want kind %d", cause, got, want)
		}
	}
}

// The head of a response tells who speaks: the service, or something before it.
// Whatever is looked at, the caller gets all of it.
func TestLook(t *testing.T) {
	t.Parallel()
	const grpc, web = "application/grpc+proto", "application/grpc-web+proto"
	webTrailer := "\x80\x00\x00\x00\x0fgrpc-status:14\r"
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(zip, "grpc-message: later\r\ngrpc-status: 14\r\n")
	_ = zip.Close()
	webZipped := "\x81\x00\x00\x00" + string(rune(zipped.Len())) + zipped.String()
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zstandard := string(encoder.EncodeAll([]byte(`{"code":"unavailable"}`), nil))
	for _, c := range []struct {
		name, status, contentType, header, body string
		want                                    upstream.Kind
	}{
		{"success", "200 OK", "application/json", "", `{"result":3}`, upstream.Answered},
		{"Connect error", "404 Not Found", "application/json", "", `{"code":"not_found"}`, upstream.Answered},
		{"Connect unavailable", "503 Service Unavailable", "application/json", "", `{"code":"unavailable"}`, upstream.Unavailable},
		{"Connect exhausted", "429 Too Many Requests", "application/json", "", `{"code":"resource_exhausted"}`, upstream.Exhausted},
		{"Connect error with a status of its own", "503 Service Unavailable", "application/json", "", `{"code":"internal"}`, upstream.Answered},
		{"gRPC status with an HTTP error", "503 Service Unavailable", grpc, "Grpc-Status: 5\r\n", "", upstream.Answered},
		{"Connect error with a charset", "503 Service Unavailable", "Application/JSON ;charset=UTF-8", "", `{"code":"unavailable"}`, upstream.Unavailable},
		{"Connect error in zstd", "503 Service Unavailable", "application/json", "Content-Encoding: zstd\r\n", zstandard, upstream.Unavailable},
		{"JSON that only its caller can read", "504 Gateway Timeout", "application/json", "Content-Encoding: br\r\n", "?", upstream.Answered},
		{"JSON that is not what it says", "503 Service Unavailable", "application/json", "Content-Encoding: zstd\r\n", `{"code":"unavailable"}`, upstream.Bare},
		{"JSON of a proxy", "503 Service Unavailable", "application/json", "", `{"code":"busy"}`, upstream.Bare},
		{"HTML of a proxy", "502 Bad Gateway", "text/html", "", "<html>", upstream.Bare},
		{"nothing of a proxy", "504 Gateway Timeout", "", "", "", upstream.Bare},
		{"other plain HTTP", "429 Too Many Requests", "text/plain", "", "slow down", upstream.Answered},
		{"gRPC trailers-only", "200 OK", grpc, "Grpc-Status: 14\r\n", "", upstream.Unavailable},
		{"gRPC other status", "200 OK", grpc, "Grpc-Status: 5\r\n", "", upstream.Answered},
		{"gRPC message first", "200 OK", grpc, "", "\x00\x00\x00\x00\x00", upstream.Answered},
		{"gRPC-Web trailer frame", "200 OK", web, "", webTrailer, upstream.Unavailable},
		{"gRPC-Web message that looks like a trailer", "200 OK", web, "", "\x00\x00\x00\x00\x11grpc-status: 14\r\n", upstream.Answered},
		{"gRPC-Web compressed trailer frame", "200 OK", web, "Grpc-Encoding: gzip\r\n", webZipped, upstream.Unavailable},
		{"gRPC-Web broken trailer frame", "200 OK", web, "Grpc-Encoding: gzip\r\n", "\x81\x00\x00\x00\x01x", upstream.Answered},
		{"gRPC-Web message first", "200 OK", web, "", "\x00\x00\x00\x00\x00" + webTrailer, upstream.Answered},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			head := "HTTP/1.1 " + c.status + "\r\n" + c.header
			if c.contentType != "" {
				head += "Content-Type: " + c.contentType + "\r\n"
			}
			endpoint := listen(t, func(conn net.Conn) {
				readRequest(conn)
				_, _ = io.WriteString(conn, head+"Connection: close\r\n\r\n"+c.body)
			})
			got, body := try(t.Context(), t, endpoint, "{}")
			if got.Kind != c.want || body != c.body {
				t.Errorf("outcome = %+v with body %q, want kind %d with %q", got, body, c.want, c.body)
			}
		})
	}
}
