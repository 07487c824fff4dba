package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// watched is a service whose streams send their head and one message, and then
// nothing, until the gateway ends them. A stream with a Break header the service
// ends itself, without a word, when the caller's time is over. Other calls it
// answers at once.
type watched struct {
	ended chan struct{}
}

func newWatched(tb testing.TB) (w *watched, addr string) {
	tb.Helper()
	w = &watched{ended: make(chan struct{}, 100)}
	return w, serve(tb, w)
}

// ServeHTTP implements http.Handler.
func (s *watched) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") {
		http.NotFound(w, r)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	w.Header().Set("Watched", "yes")
	if r.Header.Get("Stall") == "" {
		_, _ = io.WriteString(w, "{}")
		return
	}
	defer func() { s.ended <- struct{}{} }()
	if r.Header.Get("Break") != "before the head" {
		_, _ = io.WriteString(w, r.Header.Get("Stall"))
		_ = http.NewResponseController(w).Flush()
	}
	if r.Header.Get("Break") != "" {
		<-time.After(50 * time.Millisecond) // as long as the caller gave it
		panic(http.ErrAbortHandler)
	}
	<-r.Context().Done()
}

// The breaker hears of streams that the service ends, and not of those whose
// callers leave, or whose time is over, whoever sees that first.
func TestWhoEndedTheAnswer(t *testing.T) {
	t.Parallel()
	const times = 5 // failures in a row open the breaker
	for _, c := range []struct {
		name    string
		headers []string
		leave   bool
		opens   bool
	}{
		{"the caller leaves", nil, true, false},
		{"the caller leaves before its deadline", []string{"Connect-Timeout-Ms: 60000"}, true, false},
		{"the deadline is over", []string{"Connect-Timeout-Ms: 50"}, false, false},
		{"the deadline is over, in gRPC's words", []string{"Grpc-Timeout: 50m", "Content-Type: application/grpc"}, false, false},
		{"the service knows the deadline", []string{"Connect-Timeout-Ms: 50", "Break: after the head"}, false, false},
		{"the service knows the deadline at once", []string{"Connect-Timeout-Ms: 50", "Break: before the head"}, false, false},
		{"the service breaks off", []string{"Break: after the head"}, false, true},
		{"the service breaks off before a deadline", []string{"Connect-Timeout-Ms: 60000", "Break: after the head"}, false, true},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, major int, client *http.Client) {
				for _, m := range []method{watch, add, schemaless} {
					if c.leave && m == add && major == 2 {
						continue // it gets the head with the message's end
					}
					service, addr := newWatched(t)
					url := frontMOM(t, "http://"+addr)
					for range times {
						service.visit(t, client, url+m.path, c.leave, c.headers...)
					}
					p := map[int]protocol{1: connect1, 2: connect2}[major]
					if got := p.call(t, client, url, add); strings.HasSuffix(got.decision, ";breaker=open") != c.opens {
						t.Errorf("%s, then a call: %q, decision %s; want an open breaker: %t", m.name, got.what, got.decision, c.opens)
					}
				}
			})
		})
	}
}

// visit opens a stream that stalls, and is over once both sides have ended it. Who
// leaves does so when the head is there.
func (s *watched) visit(tb testing.TB, client *http.Client, url string, leave bool, headers ...string) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	defer cancel()
	req := request(tb, url, strings.NewReader("{}"), append([]string{"Stall: {", "Content-Type: application/octet-stream"}, headers...)...)
	res, err := client.Do(req.WithContext(ctx))
	if err != nil {
		return // HTTP/2 may break before the head is out
	}
	if leave {
		cancel()
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if res.Header.Get("Watched") != "" { // it is the service's
		<-s.ended
	}
}

// A caller whose request breaks off in the midst of a stream is not a fault of
// the service's.
func TestBrokenRequestOfAStream(t *testing.T) {
	t.Parallel()
	service := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength >= 0 {
			_, _ = io.WriteString(w, "{}")
			return
		}
		controller := http.NewResponseController(w)
		_ = controller.EnableFullDuplex()
		_ = controller.Flush()
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}))
	url := frontMOM(t, "http://"+service)
	for range 6 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: service\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\x00\r\n", watch.path)
		reader := bufio.NewReader(conn)
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "no chunk\r\n")
		if _, err := io.Copy(io.Discard, res.Body); err == nil {
			t.Error("caller read a whole answer to half a request")
		}
		_ = conn.Close()
	}
	if got := connect1.call(t, client(t, 1), url, add); strings.HasSuffix(got.decision, ";breaker=open") {
		t.Errorf("caller read %q, decision %s; want a closed breaker", got.what, got.decision)
	}
}

// What has come of an answer that breaks off reaches its caller. On a connection that was used before, curl and browsers take an end without a byte for a
// stale connection, and send the call again.
func TestBrokenAnswerBegins(t *testing.T) {
	t.Parallel()
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("Break") == "" {
			_, _ = io.WriteString(w, "{}")
			return
		}
		w.Header().Set("Content-Length", "300")
		_, _ = io.WriteString(w, "{")
		_ = http.NewResponseController(w).Flush()
		if r.Header.Get("Connect-Timeout-Ms") != "" {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}))
	url := frontMOM(t, "http://"+addr)
	for _, how := range []string{"Break: yes", "Break: yes\r\nConnect-Timeout-Ms: 300"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		answers := bufio.NewReader(conn)
		for i, with := range []string{"Break:", how} {
			_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n%s\r\nContent-Length: 2\r\n\r\n{}", add.path, with)
			res, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatalf("%q: call %d has no answer: %v", how, i+1, err)
			}
			body, err := io.ReadAll(res.Body)
			if err == nil && strings.Contains(string(body), "deadline_exceeded") {
				continue // on a busy machine the deadline may be over before the answer has begun
			}
			if want := []string{"{}", "{"}[i]; string(body) != want || (err != nil) != (i == 1) {
				t.Errorf("%q: call %d got %q, %v, want %q", how, i+1, body, err, want)
			}
		}
	}
}
