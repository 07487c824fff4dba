package gateway_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect/v2"

	"holdline/internal/contract"
	"holdline/internal/freeport"
)

// A caller of HTTP/1.1 that closes its half of the connection has left, as far as
// net/http tells. It reads on, and must not read a 200 that nobody said.
func TestHalfClosedCaller(t *testing.T) {
	t.Parallel()
	for name, held := range map[string]bool{"direct": false, "held": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := make(chan struct{}, 1)
			service := newFaulty(t, fault{act: func(x *exchange) {
				asked <- struct{}{}
				x.hang()
			}})
			mom := newStandIn(t, func(w http.ResponseWriter, r *http.Request, o offer) {
				accept(w, o)
				asked <- struct{}{}
				<-r.Context().Done()
			})
			endpoint := "http://" + service.addr
			if held {
				endpoint = "http://" + freeport.Addr(t)
			}
			conn, err := net.Dial("tcp", strings.TrimPrefix(frontMOM(t, endpoint, mom.addr), "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_, err = io.WriteString(conn, "POST "+add.path+" HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
			if err != nil {
				t.Fatal(err)
			}
			<-asked
			_ = conn.(*net.TCPConn).CloseWrite()
			if got, _ := io.ReadAll(conn); len(got) > 0 {
				t.Errorf("the caller read %q, want nothing: nobody has answered", got)
			}
		})
	}
}

// What is said not to be executed was never sent, in any try.
func TestNotExecutedIsTrue(t *testing.T) {
	t.Parallel()
	for _, headers := range [][]string{{"Holdline-Mode: direct"}, nil} {
		service := newFaulty(t, fault{act: (*exchange).close})
		url := frontMOM(t, "http://"+service.addr+",http://"+freeport.Addr(t), freeport.Addr(t))
		for range 4 { // whichever endpoint comes first
			before := service.seen()
			got := connect1.call(t, client(t, 1), url, get, headers...)
			if service.seen() != before && strings.Contains(got.body, "not executed") {
				t.Errorf("%v: the service saw it, and its caller read %s", headers, got.body)
			}
		}
	}
}

// A MOM that is gone says nothing of a task: whoever reads one may read again.
func TestReadingOfTasksMayBeRepeated(t *testing.T) {
	t.Parallel()
	mom := newStandIn(t, abort)
	url := frontMOM(t, "http://"+freeport.Addr(t), mom.addr)
	for _, path := range []string{"/v1/tasks/x", "/v1/tasks/x/answer"} {
		res, err := client(t, 1).Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
			t.Errorf("%s: got %d %s, want unavailable, and when to read again", path, res.StatusCode, body)
		}
	}
}

// What a task came to says nothing of the MOM that tells it: reading such tasks keeps nobody from reading others.
func TestKeptErrorsAreNoFailures(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	url := frontMOM(t, "http://"+freeport.Addr(t), serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v1/") {
			return // the gateway asks for its health, too
		}
		asked.Add(1)
		w.Header().Set(contract.HeaderTask, r.URL.Path)
		contract.WriteError(w, r, connect.NewError(connect.CodeUnavailable, "closed for lunch"))
	})))
	for range 20 {
		res, err := client(t, 1).Get(url + "/v1/tasks/x/answer")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "closed for lunch") {
			t.Errorf("got %d %s, want what the task came to", res.StatusCode, body)
		}
	}
	if got := asked.Load(); got != 20 {
		t.Errorf("the MOM was asked %d times, want once for each reader", got)
	}
}
