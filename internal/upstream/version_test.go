package upstream

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdline/internal/freeport"
)

// speaker is a server of some versions of HTTP that counts what it runs.
type speaker struct {
	mu   sync.Mutex
	ran  []int // the versions of its calls
	stop func()
}

func speak(tb testing.TB, addr string, secure *tls.Config, one, two bool) *speaker {
	tb.Helper()
	s := &speaker{}
	server := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.URL.Path == "/a.B/C" {
			s.ran = append(s.ran, r.ProtoMajor)
		}
	})}
	server.Protocols.SetHTTP1(one)
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	if secure != nil {
		server.Protocols.SetHTTP2(two)
		server.TLSConfig = secure
	} else {
		server.Protocols.SetUnencryptedHTTP2(two)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if secure != nil {
			_ = server.ServeTLS(ln, "", "")
		} else {
			_ = server.Serve(ln)
		}
	}()
	s.stop = func() {
		_ = server.Close()
		<-ended
	}
	tb.Cleanup(s.stop)
	return s
}

// A call gets there in a version of HTTP that the endpoint speaks, once, its caller's if that is
// one; with a body, without one, and as a stream. gRPC is not sent without HTTP/2.
func TestVersions(t *testing.T) {
	t.Parallel()
	own := certificate(t, time.Now().Add(time.Hour))
	for _, secure := range []bool{false, true} {
		for name, speaks := range map[string][2]bool{"one": {true, false}, "two": {false, true}, "both": {true, true}} {
			for _, major := range []int{1, 2} {
				for _, kind := range []string{"application/json", "application/grpc"} {
					if kind == "application/grpc" && major == 1 {
						continue
					}
					t.Run(map[bool]string{false: "clear/", true: "tls/"}[secure]+name+"/"+kind, func(t *testing.T) {
						t.Parallel()
						addr := freeport.Addr(t)
						var s *speaker
						var e *Endpoint
						if secure {
							s = speak(t, addr, &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}, speaks[0], speaks[1])
							e = secured(t, addr, own)
						} else {
							s = speak(t, addr, nil, speaks[0], speaks[1])
							e = (*openPool(t, nil, "http://"+addr).endpoints.Load())[0]
						}
						want, spoken := Outcome{}, major
						if !speaks[of(major)] {
							spoken = 3 - major
						}
						if kind == "application/grpc" && spoken == 1 {
							want = Outcome{Unsendable, NeedsHTTP2}
						}
						runs := 0
						for _, body := range []string{"message", ""} {
							for _, stream := range []bool{false, true} {
								if got := postWith(t, e, major, body, stream, http.Header{"Content-Type": {kind}}); got != want {
									t.Errorf("HTTP/%d, %q, stream %v: got %+v, want %+v", major, body, stream, got, want)
								}
								if runs++; want != (Outcome{}) {
									runs = 0
								}
							}
						}
						s.mu.Lock()
						defer s.mu.Unlock()
						if len(s.ran) != runs {
							t.Fatalf("%d calls ran, want %d", len(s.ran), runs)
						}
						for _, got := range s.ran {
							if got != spoken {
								t.Errorf("came over HTTP/%d, want HTTP/%d", got, spoken)
							}
						}
					})
				}
			}
		}
	}
}

// A call gets there in the other version even if its endpoint has no connection left when the first one was
// not understood, so that all is forgotten that was shown.
func TestVersionIsForgotten(t *testing.T) {
	t.Parallel()
	for _, major := range []int{1, 2} {
		addr := freeport.Addr(t)
		s := speak(t, addr, nil, major == 2, major == 1)
		e := (*openPool(t, nil, "http://"+addr).endpoints.Load())[0]
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
					e.versions.doubt()
				}
			}
		}()
		for range 500 {
			if got := postWith(t, e, major, "message", false, http.Header{"Content-Type": {"application/json"}}); got != (Outcome{}) {
				t.Errorf("HTTP/%d: got %+v, want it answered in the other version", major, got)
			}
		}
		close(stop)
		<-stopped
		s.mu.Lock()
		if len(s.ran) != 500 {
			t.Errorf("HTTP/%d: %d calls ran, want 500", major, len(s.ran))
		}
		s.mu.Unlock()
	}
}

// A service may run a call and answer what is no HTTP. Only one that begins as HTTP/2 does has not understood the call.
func TestAnswersThatAreNoHTTP(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]Kind{
		"\x00": Broken, "\x00\x01garbage": Broken, "\x00\x00\x00\x04\x00": Broken, "\x00\x00\x00\x04\x01\x00\x00\x00\x00": Broken,
		"\x00\x00\x05\x04\x00\x00\x00\x00\x00": Broken, "\x15\x03\x01": Broken, "garbage": Broken, "HTTP/1.": Broken,
		"\x00\x00\x00\x04\x00\x00\x00\x00\x00": NotSent,
	} {
		for _, only := range []HTTP{AnyHTTP, OnlyHTTP1} {
			var seen atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/a.B/C" { // and not a question
					_, _ = io.Copy(io.Discard, r.Body) // before that, it is not sent
					seen.Add(1)
				}
				if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
					_, _ = io.WriteString(conn, answer)
					_ = conn.Close()
				}
			}))
			e := (*openPool(t, nil, server.URL).endpoints.Load())[0]
			e.versions.only = only
			got := post(t, e, 1, "message", false)
			if want == NotSent && only == AnyHTTP && got.Kind == Broken {
				got.Kind = NotSent // it was sent over HTTP/2 then, and that breaks off before or after it
			}
			if got.Kind != want || seen.Load() != 1 {
				t.Errorf("%q, %v: got %+v, and it ran %d times; want %v, and once", answer, only, got, seen.Load(), want)
			}
			server.Close()
		}
	}
}

// Another program may listen at an address later, and speak another version.
func TestVersionChanges(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	e := (*openPool(t, nil, "http://"+addr).endpoints.Load())[0]
	for _, major := range []int{1, 2, 1, 2} {
		s := speak(t, addr, nil, major == 1, major == 2)
		eventually(t, "the endpoint is fit", func() bool { return !e.ejected.Load() && e.Healthy(t.Context()) })
		for _, callers := range []int{1, 2, 1} {
			if got := post(t, e, callers, "message", false); got != (Outcome{}) {
				t.Errorf("HTTP/%d at HTTP/%d: got %+v, want an answer", callers, major, got)
			}
		}
		if got, want := postWith(t, e, 2, "message", false, http.Header{"Content-Type": {"application/grpc"}}), major == 2; (got == Outcome{}) != want {
			t.Errorf("gRPC at HTTP/%d: got %+v", major, got)
		}
		s.stop()
		awaitNoConns(t, e)
	}
}

func awaitNoConns(t *testing.T, e *Endpoint) {
	t.Helper()
	eventually(t, "the connections are gone", func() bool {
		e.connsMu.Lock()
		defer e.connsMu.Unlock()
		return len(e.conns) == 0
	})
}

// What it has shown of calls that are of no protocol is forgotten with its last connection.
func TestOthersAreForgotten(t *testing.T) {
	t.Parallel()
	e := (*openPool(t, nil, "http://"+freeport.Addr(t)).endpoints.Load())[0]
	e.others.note(true)
	e.removeConn(&conn{})
	if e.others.recently() {
		t.Error("it is remembered, want it forgotten")
	}
}

// So it is where nothing but calls finds out.
func TestVersionChangesUnseen(t *testing.T) {
	t.Parallel()
	own := certificate(t, time.Now().Add(time.Hour))
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "clear", true: "tls"}[secure], func(t *testing.T) {
			t.Parallel()
			addr := freeport.Addr(t)
			var config *tls.Config
			var e *Endpoint
			if secure {
				config = &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
				e = secured(t, addr, own)
			} else {
				e = (*openPool(t, nil, "http://"+addr).endpoints.Load())[0]
			}
			for i, speaks := range [][2]bool{{true, false}, {true, true}, {true, false}, {false, true}, {true, true}, {false, true}, {true, false}} {
				s := speak(t, addr, config.Clone(), speaks[0], speaks[1])
				for _, callers := range []int{1, 2, 1} {
					if got := post(t, e, callers, "message", false); got != (Outcome{}) {
						t.Errorf("%d, HTTP/%d at %v: got %+v, want an answer", i, callers, speaks, got)
					}
				}
				grpc := http.Header{"Content-Type": {"application/grpc"}}
				if got := postWith(t, e, 2, "message", false, grpc); (got == Outcome{}) != speaks[1] {
					t.Errorf("%d, gRPC at %v: got %+v", i, speaks, got)
				}
				if cause, refused := e.pool.Refuses(&Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}, HTTPMajor: 1, Header: grpc}); refused == speaks[1] {
					t.Errorf("%d, gRPC at %v: refused %v %s", i, speaks, refused, cause)
				}
				s.stop()
				awaitNoConns(t, e)
			}
		})
	}
}

// A call does not wait for a server that says nothing longer than for its own end.
func TestNoGreeting(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	e := (*openPool(t, nil, "http://"+ln.Addr().String()).endpoints.Load())[0]
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(ErrDeadline) })
	if _, outcome, _ := e.Try(ctx, &Request{Method: http.MethodPost, URL: &url.URL{Path: "/a.B/C"}, HTTPMajor: 2, Header: http.Header{}, Body: []byte("message"), Length: 7}); outcome.Kind != DeadlineOver {
		t.Errorf("got %+v, want the deadline", outcome)
	}
}

// A call that broke is not taken for one that was not understood when the question for that is cut short: it
// may have run.
func TestBrokenCallWhoseQuestionIsCut(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 100)
	addr := serveIn(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/a.B/C":
			panic(http.ErrAbortHandler)
		case r.ProtoMajor == 1:
			_, _ = io.Copy(io.Discard, r.Body) // or nobody notices when the asker goes
			asked <- struct{}{}
			<-r.Context().Done()
		}
	}), true, true)
	e := (*openPool(t, nil, "http://"+addr).endpoints.Load())[0]
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-asked
		cancel(ErrTryTimeout)
	}()
	if _, outcome, _ := e.Try(ctx, &Request{Method: http.MethodPost, URL: &url.URL{Path: "/a.B/C"}, HTTPMajor: 1, Header: http.Header{}, Body: []byte("message"), Length: 7}); outcome.Kind != Broken {
		t.Errorf("got %+v, want it broken", outcome)
	}
}

// Nor is it when its server ends and begins again between the questions: it may speak both versions, and have run the call.
func TestBrokenCallAtServerThatRestarts(t *testing.T) {
	t.Parallel()
	var (
		mu   sync.Mutex
		open = map[net.Conn]bool{}
		ran  int
	)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		Protocols: new(http.Protocols),
		ConnState: func(c net.Conn, state http.ConnState) {
			mu.Lock()
			defer mu.Unlock()
			open[c] = state != http.StateClosed
		},
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if r.URL.Path == "/a.B/C" {
				ran++
			}
			if r.URL.Path == "/a.B/C" || r.ProtoMajor == 1 { // it ends, and who listens next is the same
				for c := range open {
					_ = c.Close()
				}
			}
		}),
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	e := (*openPool(t, nil, "http://"+ln.Addr().String()).endpoints.Load())[0]
	_, outcome, err := e.Try(t.Context(), &Request{Method: http.MethodPost, URL: &url.URL{Path: "/a.B/C"}, HTTPMajor: 1, Header: http.Header{}, Body: []byte("message"), Length: 7})
	mu.Lock()
	defer mu.Unlock()
	if outcome.Kind != Broken || ran != 1 {
		t.Errorf("got %+v and %v, and it ran %d times, want it broken, and once", outcome, err, ran)
	}
}
