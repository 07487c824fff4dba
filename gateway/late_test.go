package gateway_test

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"golang.org/x/net/http2"

	"holdline/gateway"
)

// The caller's deadline ends an answer whose head is out, however long the service
// stalls: with an error in the caller's protocol where there is a place for one, else
// as an answer that broke off. The service hears that it is over.
func TestDeadlineAfterTheHead(t *testing.T) {
	t.Parallel()
	const late, broken = "deadline_exceeded", "broken"
	whole, half := message, "\x00\x00\x00\x00\x09{}"
	text := protocol{"gRPC-Web in text", 1, "application/grpc-web-text", "application/grpc-web-text", "Grpc-Timeout: %dm", false}
	for _, c := range []struct {
		name, sent string // before it stalls
		method     method
		over       []protocol
		want       string
	}{
		{"nothing", "", watch, all, late},
		{"a message", whole, watch, all, late},
		{"two messages and a half", whole + whole + half, watch, []protocol{connect1, connect2, web}, broken},
		{"half a message", half, watch, []protocol{connect1, connect2, web}, broken},
		{"half a head", whole[:3], watch, []protocol{connect1, connect2, web}, broken},
		{"half a message", half, watch, onG, late}, // trailers have their own place
		{"a message", whole, add, []protocol{grpc, web}, late},
		{"nothing", "", add, []protocol{grpc, web}, late},
		{"half a message", "{", add, onC, broken},
		{"nothing", "", add, onC, late},
		{"a message", whole, schemaless, []protocol{grpc, web}, late},
		{"a message in base64", base64.StdEncoding.EncodeToString([]byte(whole)), watch, []protocol{text}, broken},
		{"the end of a Connect stream", envelope(2, "{}"), watch, onC, "ok"},
		{"the trailers of gRPC-Web", envelope(0x80, "grpc-status: 0\r\n"), watch, onW, "ok"},
	} {
		for _, p := range c.over {
			t.Run(strings.ReplaceAll(p.name+"/"+c.method.name+"/"+c.name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				heard := make(chan struct{})
				url := frontMOM(t, "http://"+serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
					_, _ = io.WriteString(w, c.sent)
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
					close(heard)
				})))
				// The head is out when the deadline is over, and the caller waits for more.
				got := p.call(t, client(t, p.major), url, c.method, p.deadline(300*time.Millisecond))
				if got.what != c.want {
					t.Errorf("caller read %q, %q; want %q", got.what, got.body, c.want)
				}
				<-heard
			})
		}
	}
}

// An answer of a known length that is late breaks off: its caller must not take
// what has come for all of it.
func TestDeadlineWithALength(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ int, client *http.Client) {
		for _, m := range []method{add, watch} {
			url := frontMOM(t, "http://"+serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Length", "20")
				w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
				_, _ = io.WriteString(w, message)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			})))
			for ms := 300; ; ms *= 2 {
				res, err := client.Do(request(t, url+m.path, strings.NewReader("{}"), "Content-Type: application/connect+json", fmt.Sprint("Connect-Timeout-Ms: ", ms)))
				if err != nil {
					break // HTTP/2 may break before the head is out
				}
				raw, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if ms < 10_000 && err == nil && !strings.Contains(string(raw), message) && strings.Contains(string(raw), "deadline_exceeded") {
					continue // on a busy machine the deadline may be over before the answer has begun
				}
				if err == nil {
					t.Errorf("%s: got a whole answer %q", m.name, raw)
				}
				break
			}
		}
	})
}

// The stream of a gRPC caller whose service breaks it at its deadline ends in order.
func TestServiceIsFirstAtTheDeadline(t *testing.T) {
	t.Parallel()
	for _, m := range []method{add, watch} {
		for _, where := range []string{"before the head", "after the head"} {
			_, addr := newWatched(t)
			req := grpc.request(t, frontMOM(t, "http://"+addr), m, "Grpc-Timeout: 50m", "Stall: {", "Break: "+where)
			res, err := client(t, 2).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(res.Body)
			_ = res.Body.Close()
			if reset := (http2.StreamError{}); errors.As(err, &reset) || cmp.Or(res.Trailer.Get("Grpc-Status"), res.Header.Get("Grpc-Status")) != "4" {
				t.Errorf("%s %s: caller read %v, trailers %v; want grpc-status 4", m.name, where, err, res.Trailer)
			}
		}
	}
}

// A caller whose own body is late hears that its time is over, not a minute later
// that the body did not come.
func TestDeadlineOfABody(t *testing.T) {
	t.Parallel()
	url := frontMOM(t, "http://"+newFaulty(t, fine).addr)
	for _, p := range all {
		body, half := io.Pipe()
		req := p.request(t, url, add, p.deadline(100*time.Millisecond))
		req.Body, req.ContentLength = body, 100
		res, err := client(t, p.major).Do(req)
		if err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		raw, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		_ = half.Close()
		if code, _, _ := verdict(res, raw); code != connect.CodeDeadlineExceeded {
			t.Errorf("%s: caller read %v %q, want deadline_exceeded", p.name, code, raw)
		}
	}
}

// A caller that does not read its answer keeps no call beyond its deadline.
func TestDeadlineOfAnUnreadAnswer(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ int, client *http.Client) {
		url := "http://" + serve(t, configured(t, gateway.Config{MaxCalls: 1}, "http://"+serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if r.URL.Path == watch.path {
				_, _ = io.Copy(w, zeros{}) // until it is ended
			}
		}))))
		res, err := client.Do(request(t, url+watch.path, strings.NewReader("{}"), "Content-Type: application/connect+json", "Connect-Timeout-Ms: 200"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }() // and not read
		settle(t, func() error {
			if got := connect1.call(t, client, url, add); got.what != "ok" {
				return fmt.Errorf("another call: %s", got.what)
			}
			return nil
		})
	})
}
