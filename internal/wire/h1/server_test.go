package h1_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"holdline/internal/wire"
	"holdline/internal/wire/h1"
)

// plainServer serves plain calls.
func plainServer(plain func(*wire.Request) (*wire.Response, http.Handler)) *h1.Server {
	return &h1.Server{Plain: plain, HeaderTimeout: time.Minute, IdleTimeout: time.Minute}
}

// request is what a server takes a request for.
type request struct {
	path, host string
	header     http.Header
	body       string
}

// asPlain is what is taken for plain calls of what a client sends before it leaves, and how much of that is not.
func asPlain(tb testing.TB, sent []byte) (all []request, left int) {
	tb.Helper()
	near, far := net.Pipe()
	go func() {
		_, _ = near.Write(sent)
		_ = near.Close()
	}()
	server := plainServer(func(req *wire.Request) (*wire.Response, http.Handler) {
		body, ok := req.Caller.Body(time.Minute)
		if !ok {
			return nil, nil
		}
		all = append(all, request{req.Path, req.Authority, headerOf(req.Header), string(body)})
		return &wire.Response{Status: http.StatusOK}, nil
	})
	caller := server.Meet(quiet{far})
	if err := caller.ServePlain(); err == nil {
		rest, _ := io.ReadAll(caller)
		left = len(rest)
	}
	_ = caller.Close()
	return all, left
}

// quiet is a connection whose client does not read, and has all the time.
type quiet struct{ net.Conn }

func (quiet) Write(p []byte) (int, error)     { return len(p), nil }
func (quiet) SetReadDeadline(time.Time) error { return nil }

// check compares what is taken for plain calls with what net/http takes it for.
func check(tb testing.TB, sent []byte) (plain int) {
	tb.Helper()
	all, left := asPlain(tb, sent)
	reader := bufio.NewReader(bytes.NewReader(sent))
	for _, got := range all {
		r, err := http.ReadRequest(reader)
		if err != nil {
			tb.Fatalf("%q: net/http says %v of %v", sent, err, got)
		}
		body, err := io.ReadAll(r.Body)
		want := request{r.RequestURI, r.Host, r.Header, string(body)}
		delete(got.header, "Keep-Alive")
		delete(want.header, "Keep-Alive")
		delete(want.header, "Connection")
		if err != nil || r.Method != http.MethodPost || r.Close || !reflect.DeepEqual(got, want) {
			tb.Errorf("%q: got %v, and by net/http %s %v, %v, the last: %t", sent, got, r.Method, want, err, r.Close)
		}
		next, _ := reader.Peek(4) // as net/http's server does after a POST
		_, _ = reader.Discard(len(next) - len(bytes.TrimLeft(next, "\r\n")))
	}
	rest, _ := io.ReadAll(reader)
	if left > 0 && left != len(rest) {
		tb.Errorf("%q: %d bytes are left, and by net/http %d", sent, left, len(rest))
	}
	return len(all)
}

// requests are heads and bodies, with how many of them are plain.
var requests = []struct {
	sent  string
	plain int
}{
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 1},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiPOST /a/c HTTP/1.1\r\nHost: b:80\r\nX-A:  b\t\r\nx_b:\r\ncontent-length:0\r\nConnection: Keep-Alive\r\n\r\n", 2},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /a/c HTTP/1.1\r\nHost: b\r\n\r\n", 1},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\n\r\nhi", 1},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\n\n\n\n\nGET / HTTP/1.1\r\n\r\n", 1},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nhi", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nX: \xe4\r\nContent-Length: 0\r\n\r\n", 1},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 10_000) + "\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\nhi", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\nhi", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding : chunked\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX: a\r\n Transfer-Encoding: chunked\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\nHost: a\nContent-Length: 0\n\n\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nX: a\nContent-Length: 1\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nX\x00: a\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nX: a\x00\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\n: a\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a b\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: X\r\nX: a\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nUpgrade: h2c\r\n\r\n", 0},
	{"POST /a/b HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST  /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST /a/b  HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST http://b/a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST //a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST /a%20b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST /a/b?c HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 0},
	{"XPOST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 0},
	{"\r\nPOST /a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\n\r\n", 0},
	{"POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Le", 0},
}

// What is taken for a plain call net/http takes for the same. All else is left unread.
func TestRequestsAsNetHTTP(t *testing.T) {
	t.Parallel()
	for _, c := range requests {
		if plain := check(t, []byte(c.sent)); plain != c.plain {
			t.Errorf("%.200q: %d plain calls, want %d", c.sent, plain, c.plain)
		}
	}
}

func FuzzRequests(f *testing.F) {
	for _, c := range requests {
		f.Add([]byte(c.sent))
	}
	f.Fuzz(func(t *testing.T, sent []byte) { check(t, sent) })
}

// netHTTP serves with net/http what is left of connections on which plain calls are served.
func netHTTP(tb testing.TB, server *h1.Server, handler http.Handler) (addr string) {
	tb.Helper()
	addr, _ = bothServe(tb, server, handler)
	return addr
}

// bothServe is netHTTP, and returns its server too.
func bothServe(tb testing.TB, server *h1.Server, handler http.Handler) (addr string, others *http.Server) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	others = &http.Server{
		Handler: handler, ReadHeaderTimeout: time.Minute,
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateIdle {
				c.(*h1.Caller).Between()
			}
		},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = others.Serve(meeting{ln, server})
	}()
	tb.Cleanup(func() {
		server.Shutdown()
		_ = others.Close()
		server.Cut()
		<-done
	})
	return ln.Addr().String(), others
}

type meeting struct {
	net.Listener
	server *h1.Server
}

// Accept implements net.Listener.
func (m meeting) Accept() (net.Conn, error) {
	c, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	caller := m.server.Meet(c)
	caller.Between()
	return caller, nil
}

// net/http closes the half of a connection on which it writes, and the client reads the end, before all is closed.
func TestCloseWrite(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	caller := plainServer(nil).Meet(far)
	defer func() { _ = caller.Close() }()
	half, ok := net.Conn(caller).(interface{ CloseWrite() error }) // as net/http asks
	if !ok || half.CloseWrite() != nil {
		t.Fatal("no half can be closed")
	}
	if rest, err := io.ReadAll(client); len(rest) > 0 || err != nil {
		t.Errorf("client: got %q, %v; want the end", rest, err)
	}
	_, _ = io.WriteString(client, "on")
	if got, err := io.ReadFull(caller, make([]byte, 2)); err != nil {
		t.Errorf("server: got %d bytes, %v, of what the client sends on", got, err)
	}
}

// Plain calls and others take turns on a connection, also when they are sent without waiting for answers, and in pieces of any size.
func TestTurns(t *testing.T) {
	t.Parallel()
	server := plainServer(func(req *wire.Request) (*wire.Response, http.Handler) {
		body, ok := req.Caller.Body(time.Minute)
		if !ok {
			return nil, nil
		}
		return &wire.Response{Status: http.StatusOK, Body: append([]byte("plain "), body...)}, nil
	})
	addr := netHTTP(t, server, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s", r.Method, body)
	}))
	const (
		plain = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"
		other = "XPOST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n"
	)
	sent := plain + "1" + other + plain + "3" + plain + "4" + other + other + plain + "5"
	want := []string{"plain 1", "XPOST 2", "plain 3", "plain 4", "XPOST 2", "XPOST 2", "plain 5"}
	for size := 1; size < len(sent); size++ {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for rest := sent; rest != ""; {
				n := min(size, len(rest))
				_, _ = io.WriteString(c, rest[:n])
				rest = rest[n:]
			}
		}()
		reader := bufio.NewReader(c)
		for _, want := range want {
			res, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatalf("in pieces of %d: %v", size, err)
			}
			// What net/http has begun to read, it serves.
			got, err := io.ReadAll(res.Body)
			if said := strings.Replace(string(got), "POST ", "plain ", 1); err != nil || string(got) != want && said != want {
				t.Errorf("in pieces of %d: got %q, %v, want %q", size, got, err, want)
			}
		}
		_ = c.Close()
	}
}

// As many line breaks as net/http ignores may follow a POST.
func TestBreaksAfterPOST(t *testing.T) {
	t.Parallel()
	addr := netHTTP(t, plainServer(func(*wire.Request) (*wire.Response, http.Handler) {
		return &wire.Response{Status: http.StatusOK}, nil
	}), http.NotFoundHandler())
	const plain, other = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	for sent, want := range map[string]string{
		plain + "\r\n" + plain + "\r\n\r\n" + other: "200 200 404",
		plain + "\n\n\n\n" + plain + "\n" + other:   "200 200 404",
		plain + "\r\n\r\n\r\n" + other:              "200 400",
		"\r\n" + plain:                              "400",
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, sent)
		var got []string
		for reader := bufio.NewReader(c); ; {
			res, err := http.ReadResponse(reader, nil)
			if err != nil {
				break
			}
			_, _ = io.Copy(io.Discard, res.Body)
			got = append(got, strconv.Itoa(res.StatusCode))
		}
		_ = c.Close()
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%q: got %s, want %s", sent, got, want)
		}
	}
}

// Trailers of a plain call are sent, after chunks.
func TestTrailers(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "hello"} {
		addr := netHTTP(t, plainServer(func(*wire.Request) (*wire.Response, http.Handler) {
			return &wire.Response{
				Status: http.StatusOK, Body: []byte(body), Header: []hpack.HeaderField{{Name: "content-length", Value: "5"}},
				Trailers: []hpack.HeaderField{{Name: "grpc-status", Value: "0"}},
			}, nil
		}), http.NotFoundHandler())
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		reader := bufio.NewReader(c)
		for range 2 {
			_, _ = io.WriteString(c, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
			res, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			if err != nil || string(got) != body || res.Trailer.Get("Grpc-Status") != "0" {
				t.Errorf("got %q, %v, %v; want %q", got, res.Trailer, err, body)
			}
		}
	}
}

// A server that shuts down closes connections without calls at once, and one with a plain call after its response, which says so. It does so even
// if net/http ends meanwhile, which takes the connection for idle.
func TestShutdown(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	server := plainServer(func(req *wire.Request) (*wire.Response, http.Handler) {
		if req.Path != "/first" {
			entered <- struct{}{}
			<-leave
		}
		return &wire.Response{Status: http.StatusOK}, nil
	})
	addr, others := bothServe(t, server, http.NotFoundHandler())
	dial := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c, bufio.NewReader(c)
	}
	call := func(c net.Conn, reader *bufio.Reader, what string) (status int) {
		_, _ = io.WriteString(c, what+" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode
	}
	idle, idleReader := dial()
	busy, busyReader := dial()
	_, _ = call(idle, idleReader, "GET /"), call(busy, busyReader, "GET /")
	for call(busy, busyReader, "POST /first") != http.StatusOK { // net/http has read part of it before it was done with the call before
	}
	_, _ = io.WriteString(busy, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	<-entered
	server.Shutdown()
	if rest, err := io.ReadAll(idleReader); len(rest) > 0 || err != nil {
		t.Errorf("without a call: got %q, %v; want the end", rest, err)
	}
	if err := others.Shutdown(t.Context()); err != nil {
		t.Errorf("net/http: %v", err)
	}
	close(leave)
	head, err := textproto.NewReader(busyReader).ReadLine()
	rest, _ := io.ReadAll(busyReader)
	if head != "HTTP/1.1 200 OK" || err != nil {
		t.Errorf("with a call: got %q %q, %v", head, rest, err)
	}
}

// A server is busy from the begin of a plain call to its end. If the call is left to net/http, the server is busy until net/http has a handler for it.
func TestBusy(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	server := plainServer(func(req *wire.Request) (*wire.Response, http.Handler) {
		entered <- struct{}{}
		<-leave
		if req.Path == "/left" {
			return nil, http.NotFoundHandler()
		}
		return &wire.Response{Status: http.StatusOK}, nil
	})
	near, far := net.Pipe()
	caller, reader := server.Meet(far), bufio.NewReader(near)
	t.Cleanup(func() { _ = near.Close(); _ = caller.Close() })
	wantBusy := func(want bool, when string) {
		t.Helper()
		if got := server.Busy(); got != want {
			t.Errorf("%s: got %t, want %t", when, got, want)
		}
	}
	left := make(chan error, 1)
	wantBusy(false, "before a call")
	go func() { left <- caller.ServePlain() }()
	for _, path := range []string{"/a", "/left"} {
		_, _ = fmt.Fprintf(near, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", path)
		<-entered
		wantBusy(true, "during a call")
		leave <- struct{}{}
		if path == "/a" {
			if _, err := http.ReadResponse(reader, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := <-left; err != nil {
		t.Fatal(err)
	}
	wantBusy(true, "after a call was left to net/http")
	if caller.Begun() == nil {
		t.Error("no handler has begun")
	}
	wantBusy(false, "after its handler has begun")
}

// A caller that leaves is noticed while its plain call is served.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	entered, left := make(chan struct{}), make(chan struct{})
	server := plainServer(func(req *wire.Request) (*wire.Response, http.Handler) {
		close(entered)
		<-req.Caller.News()
		close(left)
		return &wire.Response{Status: http.StatusOK}, nil
	})
	c, err := net.Dial("tcp", netHTTP(t, server, http.NotFoundHandler()))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	<-entered
	_ = c.Close()
	<-left
}

// A connection without calls is closed after a while, also between plain calls.
func TestIdle(t *testing.T) {
	t.Parallel()
	server := plainServer(func(*wire.Request) (*wire.Response, http.Handler) { return &wire.Response{Status: http.StatusOK}, nil })
	server.IdleTimeout = 50 * time.Millisecond
	addr := netHTTP(t, server, http.NotFoundHandler())
	for _, sent := range []string{"", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, sent)
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("after %q: %v, want the end", sent, err)
		}
		_ = c.Close()
	}
}
