package server_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
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

func skipWithoutPlain(t *testing.T) {
	t.Helper()
	if wire.DefaultEngine.IsNetHTTP() {
		t.Skip("the engine of net/http has no plain calls")
	}
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
			transport := &http.Transport{
				Protocols: protocols(func(p *http.Protocols) {
					p.SetHTTP1(major == 1)
					p.SetHTTP2(major == 2)
					p.SetUnencryptedHTTP2(major == 2)
				}),
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			}
			t.Cleanup(transport.CloseIdleConnections)
			for i := range 20 {
				for _, what := range []string{"plain", "begun", "other"}[i%3:] {
					res, err := (&http.Client{Transport: transport}).Post(scheme+"://"+addr+"/"+what, "text/plain", strings.NewReader("hi"))
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

// A server that ends waits for its plain calls, also for one that goes on with its handler, and closes connections without calls.
func TestDrainOfPlainCalls(t *testing.T) {
	t.Parallel()
	skipWithoutPlain(t)
	for _, begun := range []bool{false, true} {
		entered, leave := make(chan struct{}), make(chan struct{})
		draining := make(chan struct{})
		addr, stop := servertest.Run(t, server.Config{Drain: func() { close(draining) }, Handler: plainly(func(req *wire.Request) (*wire.Response, http.Handler) {
			if _, ok := req.Caller.Body(time.Minute); !ok || req.Path != "/plain" {
				return nil, nil
			}
			entered <- struct{}{}
			<-leave
			if begun {
				return nil, say("begun")
			}
			return &wire.Response{Status: http.StatusOK, Body: []byte("plain ")}, nil
		})})
		idle, silent, busy, later := occupy(t, addr), dial(t, addr), dial(t, addr), occupy(t, addr)
		for _, c := range []io.Writer{busy, later} {
			_, _ = io.WriteString(c, plainCall)
			<-entered
		}
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		<-draining
		for _, c := range []io.Reader{idle, silent} {
			if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
				t.Errorf("without a call: got %q, %v; want the end", rest, err)
			}
		}
		close(leave)
		for _, c := range []io.Reader{busy, later} {
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if want := map[bool]string{false: "plain ", true: "begun "}[begun]; err != nil || string(body) != want || !res.Close {
				t.Errorf("got %q, %v, told of the end: %t; want %q, and the end", body, err, res.Close, want)
			}
		}
		<-stopped
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
