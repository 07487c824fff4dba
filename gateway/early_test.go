package gateway_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"holdline/gateway"
	"holdline/internal/server"
	"holdline/internal/server/servertest"
)

// lockedBuffer is a log that is written and read at once.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// Who gets an answer to half a request reads that the connection ends, and it ends in
// order, while the caller is silent and while it still sends. net/http does not panic.
func TestAnswerToHalfARequest(t *testing.T) {
	t.Parallel()
	const length = "Content-Length: 2097152"
	answering := func(tb testing.TB) string {
		tb.Helper()
		return "http://" + serve(tb, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			_, _ = io.WriteString(w, "{}")
		}))
	}
	for _, c := range []struct {
		name    string
		method  method
		service func(tb testing.TB) string
		cfg     gateway.Config
	}{
		{name: "stream, service down", method: watch, service: dialRefused.endpoint},
		{name: "schema-less, service down", method: schemaless, service: dialRefused.endpoint},
		{name: "stream, early answer", method: watch, service: answering},
		{name: "large, service down", method: bigAdd, service: dialRefused.endpoint},
		{name: "large, early answer", method: bigAdd, service: answering},
		{name: "no such service", method: method{path: "/test.v1.None/Any"}, service: answering},
		{name: "no procedure", method: method{path: "/none"}, service: answering},
		{name: "no calls left", method: watch, service: answering, cfg: gateway.Config{MaxCalls: -1}},
	} {
		for _, framing := range []string{"Transfer-Encoding: chunked", length} {
			for _, sends := range []bool{false, true} {
				t.Run(strings.ReplaceAll(fmt.Sprint(c.name, "/", framing, "/sends ", sends), " ", "-"), func(t *testing.T) {
					t.Parallel()
					if c.method.size > 0 && framing != length && !sends {
						t.Skip("a body of unknown length is kept until it is large")
					}
					log := new(lockedBuffer)
					logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
					g := configured(t, c.cfg, c.service(t))
					addr, stop := servertest.Run(t, server.Config{Handler: g, Logger: logger})
					conn := dial(t, addr)
					_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: service\r\nContent-Type: application/connect+json\r\n%s\r\n\r\n", c.method.path, framing)
					body := io.Writer(conn)
					if framing != length {
						body = chunks{conn}
					}
					_, _ = io.WriteString(body, "\x00")
					sent := make(chan error, 1)
					if !sends {
						sent <- nil
					} else {
						go func() {
							_, err := io.CopyN(body, zeros{}, 2<<20-1)
							sent <- err
						}()
					}
					reader := bufio.NewReader(conn)
					res, err := http.ReadResponse(reader, nil)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadAll(res.Body); err != nil {
						t.Errorf("the answer: %v", err)
					}
					if err := <-sent; err != nil {
						t.Errorf("caller could not send the rest: %v", err)
					}
					switch {
					case res.Close:
						if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
							t.Errorf("after the answer: %q, %v; want the end of the connection", rest, err)
						}
					case sends && framing == length: // all of it came first
						_, _ = io.WriteString(conn, "GET /none HTTP/1.1\r\nHost: service\r\n\r\n")
						if _, err := http.ReadResponse(reader, nil); err != nil {
							t.Errorf("the next call: %v", err)
						}
					default:
						t.Errorf("caller was not told that the connection ends: %v", res.Header)
					}
					_ = conn.Close()
					stop()
					if got := log.String(); strings.Contains(got, "panic") {
						t.Errorf("logged:\n%s", got)
					}
				})
			}
		}
	}
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// chunks writes each write as a chunk.
type chunks struct{ net.Conn }

func (c chunks) Write(p []byte) (int, error) {
	if _, err := fmt.Fprintf(c.Conn, "%x\r\n%s\r\n", len(p), p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// A client that keeps its connections alive loses no call to the early answer that
// another one got.
func TestCallAfterAnEarlyAnswer(t *testing.T) {
	t.Parallel()
	url := "http://" + serve(t, configured(t, gateway.Config{}, "http://"+serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 1<<20 {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		_, _ = io.WriteString(w, "{}")
	}))))
	one := client(t, 1)
	one.Transport.(*http.Transport).MaxConnsPerHost = 1
	for i := range 20 {
		req := request(t, url+add.path, io.LimitReader(zeros{}, 2<<20), "Content-Type: application/json")
		req.ContentLength = 2 << 20
		if res, err := one.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		res, err := one.Do(request(t, url+add.path, struct{ io.Reader }{strings.NewReader("{}")}, "Content-Type: application/json"))
		if err != nil {
			t.Fatalf("call %d after an early answer: %v", i, err)
		}
		_ = res.Body.Close()
	}
}

// A connection lives on after a stream whose body came whole.
func TestConnectionIsUsedAgain(t *testing.T) {
	t.Parallel()
	url := frontMOM(t, "http://"+serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "{}")
	})))
	conn := dial(t, strings.TrimPrefix(url, "http://"))
	reader := bufio.NewReader(conn)
	for range 10 {
		for _, path := range []string{add.path, watch.path, schemaless.path} {
			for _, body := range []string{"Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"} {
				_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\n%s", path, body)
				res, err := http.ReadResponse(reader, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				if res.Close {
					t.Fatalf("%s: the connection ends", path)
				}
			}
		}
	}
}
