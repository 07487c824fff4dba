package server_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdline/internal/server"
	"holdline/internal/server/servertest"
	"holdline/internal/wire"
)

// plainly answers plain calls as it is told, and all others with "other".
type plainly func(*wire.Request) (*wire.Response, http.Handler)

// ServePlain implements wire.PlainHandler.
func (p plainly) ServePlain(req *wire.Request) (*wire.Response, http.Handler) { return p(req) }

// ServeHTTP implements http.Handler.
func (plainly) ServeHTTP(w http.ResponseWriter, r *http.Request) { say("other")(w, r) }

// say answers with words, and with the body of the request.
func say(words string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s", words, body)
	}
}

// both answers plain calls, and others by a function.
type both struct {
	plainly
	http.HandlerFunc
}

// ServeHTTP implements http.Handler.
func (b both) ServeHTTP(w http.ResponseWriter, r *http.Request) { b.HandlerFunc(w, r) }

func skipWithoutPlain(t *testing.T) {
	t.Helper()
	if wire.DefaultEngine.IsNetHTTP() {
		t.Skip("the engine of net/http has no plain calls")
	}
}

// clientOf speaks one version of HTTP, with and without TLS.
func clientOf(t *testing.T, major int) *http.Client {
	t.Helper()
	transport := &http.Transport{
		Protocols: protocols(func(p *http.Protocols) {
			p.SetHTTP1(major == 1)
			p.SetHTTP2(major == 2)
			p.SetUnencryptedHTTP2(major == 2)
		}),
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// byPath answers calls of /plain, and begins those of /begun.
func byPath(req *wire.Request) (*wire.Response, http.Handler) {
	body, ok := req.Caller.Body(time.Minute)
	switch {
	case !ok || req.Path == "/other":
	case req.Path == "/begun":
		return nil, say("begun")
	default:
		return &wire.Response{Status: http.StatusOK, Body: append([]byte("plain "), body...)}, nil
	}
	return nil, nil
}

// Plain calls, those that have begun as such, and all others take turns on a connection, with and without TLS, over both versions of HTTP.
func TestPlainCalls(t *testing.T) {
	t.Parallel()
	skipWithoutPlain(t)
	certFile, keyFile := newPair(t)
	for _, scheme := range []string{"http", "https"} {
		cfg := server.Config{Handler: plainly(byPath)}
		if scheme == "https" {
			cfg.CertFile, cfg.KeyFile = certFile, keyFile
		}
		addr, _ := servertest.Run(t, cfg)
		for _, major := range []int{1, 2} {
			client := clientOf(t, major)
			for i := range 20 {
				for _, what := range []string{"plain", "begun", "other"}[i%3:] {
					res, err := client.Post(scheme+"://"+addr+"/"+what, "text/plain", strings.NewReader("hi"))
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(res.Body)
					_ = res.Body.Close()
					if err != nil || string(got) != what+" hi" && string(got) != "other hi" || res.ProtoMajor != major {
						t.Errorf("%s, HTTP/%d, %s: got %q over %s, %v", scheme, major, what, got, res.Proto, err)
					}
				}
			}
		}
	}
}

const plainCall = "POST /plain HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"

// read is offered each call, reads its body, and leaves the call to the handler.
type read struct{ http.HandlerFunc }

// ServePlain implements wire.PlainHandler.
func (read) ServePlain(req *wire.Request) (*wire.Response, http.Handler) {
	_, _ = req.Caller.Body(time.Minute)
	return nil, nil
}

// What is begun as a plain call over HTTP/1.1 is served by our own engine, also where the handler answers none: its body has come whole. All else is net/http's.
func TestPlainCallsOfAnyHandler(t *testing.T) {
	t.Parallel()
	skipWithoutPlain(t)
	addr, _ := servertest.Run(t, server.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, whole := wire.Whole(r.Body)
		_, _ = fmt.Fprintf(w, "%v %s", whole, body)
	})})
	for what, body := range map[string]io.Reader{"true hi": strings.NewReader("hi"), "false ": io.MultiReader(strings.NewReader("hi"))} { // the latter in chunks
		res, err := http.Post("http://"+addr+"/any", "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || string(got) != what {
			t.Errorf("got %q, %v; want %q", got, err, what)
		}
	}
}

// What a request begins with may come in pieces, and is not taken for HTTP/2 before it is.
func TestFirstPieces(t *testing.T) {
	t.Parallel()
	addr, _ := servertest.Run(t, server.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Method) })})
	for _, method := range []string{"POST", "PROPFIND", "PRINT"} {
		for n := range len(method) {
			if method[:n] == "PRI" {
				continue // so does HTTP/2
			}
			conn := dial(t, addr)
			_, _ = io.WriteString(conn, method[:n])
			time.Sleep(5 * time.Millisecond)
			_, _ = io.WriteString(conn, method[n:]+" /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("%s in pieces of %d: %v", method, n, err)
			}
			if got, _ := io.ReadAll(res.Body); string(got) != method {
				t.Errorf("%s in pieces of %d: got %q", method, n, got)
			}
		}
	}
}

// The context of a request has what net/http puts there, whoever serves it.
func TestContextOfRequests(t *testing.T) {
	t.Parallel()
	addr, _ := servertest.Run(t, server.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, serves := r.Context().Value(http.ServerContextKey).(*http.Server)
		_, _ = fmt.Fprint(w, serves, " ", r.Context().Value(http.LocalAddrContextKey))
	})})
	for _, major := range []int{1, 2} {
		transport := &http.Transport{Protocols: protocols(func(p *http.Protocols) {
			p.SetHTTP1(major == 1)
			p.SetUnencryptedHTTP2(major == 2)
		})}
		t.Cleanup(transport.CloseIdleConnections)
		for _, body := range []io.Reader{strings.NewReader("hi"), io.MultiReader(strings.NewReader("hi"))} { // the latter in chunks
			res, err := (&http.Client{Transport: transport}).Post("http://"+addr+"/any", "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if want := "true " + addr; err != nil || string(got) != want {
				t.Errorf("HTTP/%d: got %q, %v; want %q", major, got, err, want)
			}
		}
	}
}

// A handler may take a body that has come whole as it lies, once, and have a header of its own be that of the response, if there is none yet.
func TestWhole(t *testing.T) {
	t.Parallel()
	skipWithoutPlain(t)
	addr, _ := servertest.Run(t, server.Config{Handler: read{func(w http.ResponseWriter, r *http.Request) {
		body, whole := wire.Whole(r.Body)
		rest, err := io.ReadAll(r.Body)
		set := wire.SetHeader(w, http.Header{"Set": {"once"}})
		again := wire.SetHeader(w, http.Header{"Set": {"again"}})
		_, _ = fmt.Fprintf(w, "%q %t, then %q %v; %t, then %t", body, whole, rest, err, set, again)
	}}})
	for _, major := range []int{1, 2} {
		transport := &http.Transport{Protocols: protocols(func(p *http.Protocols) {
			p.SetHTTP1(major == 1)
			p.SetUnencryptedHTTP2(major == 2)
		})}
		t.Cleanup(transport.CloseIdleConnections)
		res, err := (&http.Client{Transport: transport}).Post("http://"+addr+"/a", "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		const want = `"hello" true, then "" <nil>; true, then false`
		if string(got) != want || res.Header.Get("Set") != "once" {
			t.Errorf("HTTP/%d: got %s, Set: %s; want %s, once", major, got, res.Header.Get("Set"), want)
		}
	}
}

// awaitPlain calls until a call is plain on a connection that net/http has. A call that comes before net/http awaits the next request is served by
// net/http: it has read the first byte. From then on we serve all plain calls.
func awaitPlain(tb testing.TB, conn net.Conn) {
	tb.Helper()
	for reader := bufio.NewReader(conn); ; {
		_, _ = io.WriteString(conn, plainCall)
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			tb.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		switch {
		case err != nil:
			tb.Fatal(err)
		case string(body) == "plain ":
			return
		}
	}
}

// A server that ends waits for its plain calls, also for those that go on with a handler or are left to net/http, and for those on connections that
// net/http has. It closes connections without calls.
func TestDrainOfPlainCalls(t *testing.T) {
	t.Parallel()
	skipWithoutPlain(t)
	certFile, keyFile := newPair(t)
	for _, cfg := range []server.Config{{}, {CertFile: certFile, KeyFile: keyFile}} {
		for _, later := range []bool{false, true} { // net/http has the connections of the calls
			t.Run(fmt.Sprintf("TLS=%t,later=%t", cfg.CertFile != "", later), func(t *testing.T) {
				t.Parallel()
				testDrain(t, cfg, later)
			})
		}
	}
}

func testDrain(t *testing.T, cfg server.Config, later bool) {
	t.Helper()
	entered, leave, draining := make(chan struct{}), make(chan struct{}), make(chan struct{})
	cfg.Drain = func() { close(draining) }
	cfg.Handler = plainly(func(req *wire.Request) (*wire.Response, http.Handler) {
		body, ok := req.Caller.Body(time.Minute)
		if ok && len(body) > 0 { // it is to wait
			entered <- struct{}{}
			<-leave
		}
		return byPath(req)
	})
	addr, stop := servertest.Run(t, cfg)
	call := func() net.Conn {
		conn := dial(t, addr)
		if cfg.CertFile != "" {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		return conn
	}
	silent, idle := dial(t, addr), call()
	get1(t, idle)
	calls := map[string]net.Conn{}
	for _, what := range []string{"plain", "begun", "other"} {
		conn := call()
		if later {
			get1(t, conn)
			awaitPlain(t, conn)
		}
		_, _ = fmt.Fprintf(conn, "POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", what)
		<-entered
		calls[what] = conn
	}
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	<-draining
	for _, c := range []net.Conn{idle, silent} {
		if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
			t.Errorf("without a call: got %q, %v; want the end", rest, err)
		}
		_ = c.Close()
	}
	for what, c := range calls { // one that ends too early does so now
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: got %d bytes, %v, while the call runs", what, n, err)
		}
		_ = c.SetReadDeadline(time.Time{})
	}
	close(leave)
	for what, c := range calls {
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		body, err := io.ReadAll(res.Body)
		if want := what + " hi"; err != nil || string(body) != want || !res.Close {
			t.Errorf("got %q, %v, told of the end: %t; want %q, and the end", body, err, res.Close, want)
		}
		_ = c.Close()
	}
	<-stopped
}

// Plain calls go on with a handler when a drain has taken long: it knows what to tell their callers.
func TestEndOfPlainCalls(t *testing.T) {
	t.Parallel()
	skipWithoutPlain(t)
	certFile, keyFile := newPair(t)
	for _, cfg := range []server.Config{{}, {CertFile: certFile, KeyFile: keyFile}} {
		for _, major := range []int{1, 2} {
			waits, ended := make(chan struct{}), make(chan struct{})
			cfg.Addr, cfg.Logger, cfg.End = "127.0.0.1:0", slog.New(slog.DiscardHandler), func() { close(ended) }
			cfg.Handler = plainly(func(req *wire.Request) (*wire.Response, http.Handler) {
				if _, ok := req.Caller.Body(time.Minute); !ok {
					return nil, nil
				}
				close(waits)
				<-ended
				select {
				case <-req.Caller.News():
				case <-time.After(time.Minute):
					return nil, say("no news")
				}
				return nil, say("ended")
			})
			s, err := server.Listen(cfg)
			if err != nil {
				t.Fatal(err)
			}
			servertest.Keep(t, s)
			go func() {
				<-waits
				s.EndCalls()
			}()
			scheme := "http"
			if cfg.CertFile != "" {
				scheme = "https"
			}
			res, err := clientOf(t, major).Post(scheme+"://"+s.Addr()+"/plain", "application/json", strings.NewReader("hi"))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if string(body) != "ended hi" || err != nil || res.ProtoMajor != major {
				t.Errorf("%s, HTTP/%d: got %q, %v, want it from the handler", scheme, major, body, err)
			}
		}
	}
}

// The answers of a server that ends say that their connections do, also those of calls that have begun before, whoever serves them, while others still run.
func TestAnswersOfAServerThatEnds(t *testing.T) {
	t.Parallel()
	entered, leave, stay := make(chan struct{}), make(chan struct{}), make(chan struct{})
	await := func(path string) {
		entered <- struct{}{}
		if path == "/long" {
			<-stay
		}
		<-leave
	}
	addr, stop := servertest.Run(t, server.Config{Handler: both{
		plainly: func(req *wire.Request) (*wire.Response, http.Handler) {
			if _, ok := req.Caller.Body(time.Minute); !ok || req.Path == "/other" {
				return nil, nil
			}
			await(req.Path)
			return &wire.Response{Status: http.StatusOK}, nil
		},
		HandlerFunc: func(w http.ResponseWriter, r *http.Request) {
			await(r.URL.Path)
			if r.URL.Path != "/silent" {
				_, _ = io.WriteString(w, "ok")
			}
		},
	}})
	calls := map[string]net.Conn{}
	for what, request := range map[string]string{
		"long":    "POST /long HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
		"other":   "POST /other HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
		"plain":   "POST /plain HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
		"chunked": "POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		"large":   "POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("a", 20000),
		"get":     "GET /get HTTP/1.1\r\nHost: a\r\n\r\n",
		"silent":  "GET /silent HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		conn := dial(t, addr)
		_, _ = io.WriteString(conn, request)
		<-entered
		calls[what] = conn
	}
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	for tries := 0; ; tries++ { // until the server knows that it ends
		c, err := net.Dial("tcp", addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		if err == nil {
			_ = c.Close()
		}
		if tries == 10_000 {
			t.Fatal("the server goes on to accept connections")
		}
		time.Sleep(time.Millisecond)
	}
	close(leave)
	told := func(what string) {
		res, err := http.ReadResponse(bufio.NewReader(calls[what]), nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if body, err := io.ReadAll(res.Body); err != nil || !res.Close {
			t.Errorf("%s: got %q, %v, told of the end: %t", what, body, err, res.Close)
		}
		_ = calls[what].Close()
	}
	for what := range calls {
		if what != "long" {
			told(what)
		}
	}
	close(stay)
	told("long")
	<-stopped
}

// A handler that streams to a caller who has left is told by the error of a flush.
func TestFlushToNobody(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	addr, _ := servertest.Run(t, server.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for until := time.Now().Add(time.Minute); err == nil && time.Now().Before(until); {
			_, _ = io.WriteString(w, "more")
			err = http.NewResponseController(w).Flush()
		}
		failed <- err
	})})
	for _, request := range []string{
		"GET /get HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /plain HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
		"POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
	} {
		conn := dial(t, addr)
		_, _ = io.WriteString(conn, request)
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.Close()
		if err := <-failed; err == nil {
			t.Errorf("%.10s: no flush failed", request)
		}
	}
}

// A plain call that panics takes its own connection along, and no other.
func TestPanicOfAPlainCall(t *testing.T) {
	t.Parallel()
	skipWithoutPlain(t)
	log := new(logBuffer)
	addr, _ := servertest.Run(t, server.Config{Logger: slog.New(slog.NewTextHandler(log, nil)), Handler: plainly(func(*wire.Request) (*wire.Response, http.Handler) {
		panic("ouch")
	})})
	c := dial(t, addr)
	_, _ = io.WriteString(c, plainCall)
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
		t.Errorf("got %q, %v; want the end", got, err)
	}
	if log.count("ouch") == 0 {
		t.Error("nothing was logged")
	}
	fine(t, addr)
}

// A server that ends waits for nobody who does not even greet.
func TestDrainOfSilentCallers(t *testing.T) {
	t.Parallel()
	certFile, keyFile := newPair(t)
	for _, cfg := range []server.Config{{}, {CertFile: certFile, KeyFile: keyFile}} {
		cfg.Handler, cfg.Limits = http.NotFoundHandler(), server.Limits{HeaderTimeout: time.Hour}
		addr, stop := servertest.Run(t, cfg)
		silent := dial(t, addr)
		get(t, &http.Transport{DisableKeepAlives: true}, "http://"+addr) // accepted after it, with or without TLS
		stop()
		if rest, err := io.ReadAll(silent); len(rest) > 0 || err != nil {
			t.Errorf("TLS: %t: got %q, %v; want the end", cfg.CertFile != "", rest, err)
		}
	}
}
