package upstream_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"testing"

	"holdline/internal/upstream"
)

// net/http takes a request with a key for one that may run twice. Not with us: a
// connection that is lost after the request was read leaves one that may have run.
func TestKeyIsNoLeaveToSendAgain(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		for name, body := range map[string]string{"message": "{}", "empty message": ""} {
			t.Run(key+"/"+name, func(t *testing.T) {
				t.Parallel()
				keys := make(chan string, 9) // of the requests that were read
				endpoint := listen(t, func(conn net.Conn) {
					for in := bufio.NewReader(conn); ; {
						req, err := http.ReadRequest(in)
						if err != nil {
							return
						}
						_, _ = io.Copy(io.Discard, req.Body)
						if keys <- req.Header.Get(key); len(keys) > 1 {
							return // lost, on a connection that was good
						}
						_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				})
				pool := upstream.NewPool(upstream.Config{Service: "a.B", Endpoints: []*url.URL{endpoint}, Log: slog.New(slog.DiscardHandler)})
				t.Cleanup(pool.Close) // before the listener's end, which waits for its connections
				send := func() upstream.Outcome {
					res, outcome, _ := pool.Pick().Try(t.Context(), &upstream.Request{
						Method: http.MethodPost, URL: &url.URL{Path: "/a.B/C"}, HTTPMajor: 1, Header: http.Header{key: {"k"}}, Body: []byte(body), Length: int64(len(body)), Look: true,
					})
					if res != nil {
						_, _ = io.Copy(io.Discard, res)
						res.Drop()
					}
					return outcome
				}
				if first := send(); first.Kind != upstream.Answered {
					t.Fatalf("first outcome = %+v, want an answer", first)
				}
				if second := send(); second.Kind != upstream.Broken || len(keys) != 2 {
					t.Errorf("outcome = %+v, requests read: %d; want a broken one, and two", second, len(keys))
				}
				if got := <-keys; got != "k" {
					t.Errorf("%s: got %q, want the caller's", key, got)
				}
			})
		}
	}
}
