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
		res, body := fetch(t, as(http.MethodGet, request(t, url+path, http.NoBody)))
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
		res, body := fetch(t, as(http.MethodGet, request(t, url+"/v1/tasks/x/answer", http.NoBody)))
		if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "closed for lunch") {
			t.Errorf("got %d %s, want what the task came to", res.StatusCode, body)
		}
	}
	if got := asked.Load(); got != 20 {
		t.Errorf("the MOM was asked %d times, want once for each reader", got)
	}
}

// A call that no server would take is not offered to a MOM, and its caller is told why.
func TestWhatIsNoCallIsNotStored(t *testing.T) {
	t.Parallel()
	mom := newStandIn(t, nil)
	url := frontMOM(t, "http://"+freeport.Addr(t), mom.addr)
	const message = "?encoding=json&message=%7B%7D"
	for _, c := range []struct{ method, path, why string }{
		{http.MethodPut, get.path, "by POST, and not by PUT"},
		{http.MethodDelete, add.path, "by POST, and not by DELETE"},
		{http.MethodGet, add.path + message, "does not declare it NO_SIDE_EFFECTS"},
		{http.MethodGet, get.path, "has the parameters encoding and message"},
		{http.MethodGet, get.path + "?encoding=json", "has the parameters encoding and message"},
		{http.MethodGet, get.path + message + "&connect=v2", "has no version"},
	} {
		for _, header := range []string{"", "Idempotency-Key", "Prefer"} {
			headers := []string{"Content-Type: application/json"}
			if header != "" {
				headers = append(headers, header+": respond-async")
			}
			res, body := fetch(t, as(c.method, request(t, url+c.path, strings.NewReader("{}"), headers...)))
			if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, c.why) {
				t.Errorf("%s %s, %s: got %d %s, want to be told %q", c.method, c.path, header, res.StatusCode, body, c.why)
			}
		}
	}
	if offers := mom.got(); len(offers) > 0 {
		t.Errorf("%d were offered, want none", len(offers))
	}
}

// Preference-Applied is of what the caller prefers, and not of what the gateway asks of a MOM in later offers.
func TestPreferenceApplied(t *testing.T) {
	t.Parallel()
	for prefer, want := range map[string]string{"": "", "wait=30": "wait=30", "respond-async, wait=30": "respond-async, wait=30"} {
		mom := newStandIn(t, func(w http.ResponseWriter, r *http.Request, o offer) {
			if o.number == 1 {
				abort(w, r, o)
			}
			if applied := contract.Prefer(o.header).Applied(); applied != "" {
				w.Header().Set(contract.HeaderApplied, applied)
			}
			hold(w, r, o)
		})
		headers := []string{"Content-Type: application/json"}
		if prefer != "" {
			headers = append(headers, "Prefer: "+prefer)
		}
		res, _ := fetch(t, request(t, frontMOM(t, "http://"+freeport.Addr(t), mom.addr)+get.path, strings.NewReader("{}"), headers...))
		if got := res.Header.Get(contract.HeaderApplied); got != want || len(mom.got()) != 2 {
			t.Errorf("%q: got %q after %d offers, want %q after two", prefer, got, len(mom.got()), want)
		}
	}
}

// Whoever does anything else to a task than to read it is told how it is read.
func TestTasksAreReadByGET(t *testing.T) {
	t.Parallel()
	mom := newStandIn(t, nil)
	url := frontMOM(t, "http://"+freeport.Addr(t), mom.addr)
	for _, path := range []string{"/v1/tasks/x", "/v1/tasks/x/answer"} {
		for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodOptions} {
			res, _ := fetch(t, as(method, request(t, url+path, http.NoBody)))
			if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: got %s, allow %q, want 405 and GET", method, path, res.Status, res.Header.Get("Allow"))
			}
		}
	}
	if offers := mom.got(); len(offers) > 0 {
		t.Errorf("the MOM was asked %d times", len(offers))
	}
}
