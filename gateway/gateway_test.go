package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdline/gateway"
	_ "holdline/gen/arithmetic/v1"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/internal/server/servertest"
)

func TestMain(m *testing.M) {
	// Most tests wait for a pause, a dial or a deadline, not for a processor.
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	// A lookup that nobody waits for any more ends by itself, with the resolver's patience.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("net.(*Resolver).tryOneName"),
		goleak.IgnoreAnyFunction("net.(*Resolver).goLookupIPCNAMEOrder"),
		goleak.IgnoreAnyFunction("net.(*Resolver).lookupIPAddr.func2"))
}

const (
	repeatable = "/arithmetic.v1.SumService/Sum"
	undeclared = "/mom.v1.TaskService/RetryTask"
	streaming  = "/test.v1.Stream/Any" // in no schema
)

// serve runs a server for a handler, HTTP/1.1 and h2c, until the test ends.
func serve(tb testing.TB, handler http.Handler) (addr string) {
	tb.Helper()
	addr, _ = servertest.Run(tb, server.Config{Handler: handler})
	return addr
}

// front runs a gateway before whatever listens at addr.
func front(tb testing.TB, addr string) (url string) {
	tb.Helper()
	var specs []string
	for _, procedure := range []string{repeatable, undeclared, streaming} {
		service, _, _ := route.SplitProcedure(procedure)
		spec := service + "=http://" + addr
		if procedure == streaming {
			spec += ";schema=none" // nobody asks for it between the calls of a test
		}
		specs = append(specs, spec)
	}
	routes, err := route.ParseTable(specs)
	if err != nil {
		tb.Fatal(err)
	}
	schemas, err := routes.Schemas()
	if err != nil {
		tb.Fatal(err)
	}
	g, err := gateway.New(gateway.Config{Routes: routes, Schemas: schemas, Logger: slog.New(slog.NewTextHandler(tb.Output(), nil))})
	if err != nil {
		tb.Fatal(err)
	}
	servertest.Keep(tb, g)
	return "http://" + serve(tb, g)
}

// behind runs a gateway before a service that is a handler.
func behind(tb testing.TB, handler http.HandlerFunc) (url string) {
	tb.Helper()
	return front(tb, serve(tb, handler))
}

// client speaks one version of HTTP.
func client(tb testing.TB, major int) *http.Client {
	tb.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true, MaxIdleConnsPerHost: 16}
	transport.Protocols.SetHTTP1(major == 1)
	transport.Protocols.SetUnencryptedHTTP2(major == 2)
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second} // a test that hangs says where
}

// both runs a test over HTTP/1.1 and h2c.
func both(t *testing.T, test func(t *testing.T, major int, client *http.Client)) {
	t.Helper()
	for _, major := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP%d", major), func(t *testing.T) {
			t.Parallel()
			test(t, major, client(t, major))
		})
	}
}

func request(tb testing.TB, url string, body io.Reader, headers ...string) *http.Request {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, url, body)
	if err != nil {
		tb.Fatal(err)
	}
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		req.Header.Set(key, value)
	}
	return req
}

// fetch makes a request over HTTP/1.1, and reads the answer.
func fetch(tb testing.TB, req *http.Request) (res *http.Response, body string) {
	tb.Helper()
	res, err := client(tb, 1).Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	raw, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	return res, string(raw)
}

// as gives a request another method.
func as(method string, req *http.Request) *http.Request {
	req.Method = method
	return req
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, major int, client *http.Client) {
		seen := make(chan *http.Request, 1)
		url := behind(t, func(w http.ResponseWriter, r *http.Request) {
			seen <- r
			w.Header()["Date"] = nil
			w.Header().Set("Te", "hop")
			w.Header().Set("X-Answer", "kept")
			w.WriteHeader(http.StatusNoContent)
		})
		req := request(t, url+repeatable+"?q=%2F1", strings.NewReader("body"),
			"User-Agent: ", "X-Custom: kept", "Holdline-Ttl: 1m", "Holdline-Caller: forged", "Holdline-Cause: forged", "Te: trailers", "Proxy-Authorization: secret")
		req.Host = "service.example"
		if major == 1 {
			req.Header.Set("Connection", "X-Hop")
			req.Header.Set("X-Hop", "hop")
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		got := <-seen
		if got.ProtoMajor != major {
			t.Errorf("service saw HTTP/%d, want the caller's %d", got.ProtoMajor, major)
		}
		if got.Host != "service.example" || got.RequestURI != repeatable+"?q=%2F1" || got.ContentLength != 4 {
			t.Errorf("service saw host %q, URI %q, length %d", got.Host, got.RequestURI, got.ContentLength)
		}
		for key, want := range map[string]string{"X-Custom": "kept", "Holdline-Ttl": "1m", "Te": "trailers"} {
			if got.Header.Get(key) != want {
				t.Errorf("service saw %s: %q, want %q", key, got.Header.Get(key), want)
			}
		}
		for _, key := range []string{"User-Agent", "X-Hop", "Connection", "Proxy-Authorization", "Holdline-Caller", "Holdline-Cause", "Accept-Encoding"} {
			if values, ok := got.Header[key]; ok {
				t.Errorf("service saw %s: %q, want none", key, values)
			}
		}
		if res.Header.Get("X-Answer") != "kept" || res.Header.Get("Te") != "" {
			t.Errorf("caller saw %v", res.Header)
		}
		for _, key := range []string{"Date", "Content-Type"} {
			if values, ok := res.Header[key]; ok {
				t.Errorf("caller saw an invented %s: %q", key, values)
			}
		}
	})
}

// A service that ends the stream first must not deadlock with a caller who
// waits for the trailers before it ends its half.
func TestServiceEndsStreamFirst(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ int, client *http.Client) {
		url := behind(t, func(w http.ResponseWriter, r *http.Request) {
			controller := http.NewResponseController(w)
			_ = controller.EnableFullDuplex()
			line, _ := bufio.NewReader(r.Body).ReadString('\n')
			_, _ = io.WriteString(w, "got "+line)
			_ = controller.Flush() // trailers need chunks
			w.Header().Set(http.TrailerPrefix+"X-End", "service")
		})
		body, half := io.Pipe()
		go func() { _, _ = io.WriteString(half, "one\n") }()
		res, err := client.Do(request(t, url+streaming, body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		got, err := io.ReadAll(res.Body)
		if err != nil || string(got) != "got one\n" || res.Trailer.Get("X-End") != "service" {
			t.Errorf("got %q, trailers %v, %v", got, res.Trailer, err)
		}
		_ = half.Close() // only now
	})
}

// Each message of a full-duplex stream passes while both halves are open.
func TestFullDuplex(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ int, client *http.Client) {
		url := behind(t, func(w http.ResponseWriter, r *http.Request) {
			controller := http.NewResponseController(w)
			_ = controller.EnableFullDuplex()
			_ = controller.Flush()
			lines := bufio.NewScanner(r.Body)
			for lines.Scan() {
				_, _ = fmt.Fprintf(w, "echo %s\n", lines.Text())
				_ = controller.Flush()
			}
		})
		body, half := io.Pipe()
		res, err := client.Do(request(t, url+streaming, body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		lines := bufio.NewReader(res.Body)
		for i := range 20 {
			if _, err := fmt.Fprintf(half, "%d\n", i); err != nil {
				t.Fatal(err)
			}
			if got, err := lines.ReadString('\n'); err != nil || got != fmt.Sprintf("echo %d\n", i) {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		_ = half.Close()
		if _, err := lines.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v, want EOF", err)
		}
	})
}

// Large bodies pass in both directions, with and without a known length, whether
// or not they fit the replay buffer.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ int, client *http.Client) {
		url := behind(t, func(w http.ResponseWriter, r *http.Request) {
			raw, _ := io.ReadAll(r.Body)
			_, _ = w.Write(raw)
		})
		for _, size := range []int{0, 1, 1 << 20, 1<<20 + 1, 5 << 20} {
			sent := make([]byte, size)
			_, _ = rand.Read(sent)
			for name, body := range map[string]io.Reader{
				"known": bytes.NewReader(sent), "unknown": io.MultiReader(bytes.NewReader(sent)),
			} {
				for _, path := range []string{repeatable, streaming} {
					res, err := client.Do(request(t, url+path, body))
					if err != nil {
						t.Fatalf("%d bytes, length %s, %s: %v", size, name, path, err)
					}
					got, err := io.ReadAll(res.Body)
					_ = res.Body.Close()
					if err != nil || !bytes.Equal(got, sent) {
						t.Errorf("%d bytes, length %s, %s: got %d others, %v", size, name, path, len(got), err)
					}
					body = bytes.NewReader(sent)
				}
			}
		}
	})
}

func TestBrokenAnswerIsBroken(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ int, client *http.Client) {
		url := behind(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half an ans")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		for _, path := range []string{repeatable, streaming} {
			res, err := client.Do(request(t, url+path, strings.NewReader("{}")))
			if err != nil {
				continue // HTTP/2 may break before the head is out
			}
			if raw, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("%s: got a whole answer %q", path, raw)
			}
			_ = res.Body.Close()
		}
	})
}

// What the caller ends, ends at the service.
func TestCallerEnds(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ int, client *http.Client) {
		started, ended := make(chan struct{}, 1), make(chan struct{}, 1)
		url := behind(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			started <- struct{}{}
			<-r.Context().Done()
			ended <- struct{}{}
		})
		t.Run("deadline", func(t *testing.T) {
			res, err := client.Do(request(t, url+repeatable, strings.NewReader("{}"), "Content-Type: application/json", "Connect-Timeout-Ms: 50"))
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if res.StatusCode != http.StatusGatewayTimeout || !strings.Contains(string(raw), "deadline_exceeded") {
				t.Errorf("got %d %s, want deadline_exceeded", res.StatusCode, raw)
			}
			<-started
			<-ended
		})
		t.Run("leaves", func(t *testing.T) {
			ctx, leave := context.WithCancel(t.Context())
			go func() {
				<-started
				leave()
			}()
			res, err := client.Do(request(t, url+repeatable, strings.NewReader("{}")).WithContext(ctx))
			if err == nil {
				_ = res.Body.Close()
				t.Error("got an answer nobody gave")
			}
			<-ended
		})
	})
}

// raw is a service that reads a request from the connection and then does as it likes.
func raw(tb testing.TB, answer string) (addr string) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(conn, answer)
			}
			_ = conn.Close()
		}
	}()
	tb.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return ln.Addr().String()
}

// What a failed attempt leads to, by whether the method is repeatable.
func TestFailures(t *testing.T) {
	t.Parallel()
	reply := func(status, header, body string) string {
		return fmt.Sprintf("HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s", status, header, len(body), body)
	}
	const jsonType = "Content-Type: application/json\r\n"
	for _, c := range []struct {
		name, answer           string
		repeatable, undeclared string // what the caller reads
	}{
		{"closed without an answer", "", "SERVICE_UNAVAILABLE", "OUTCOME_UNKNOWN"},
		{"a status that is none", reply("+20 Odd", "", ""), "SERVICE_UNAVAILABLE", "OUTCOME_UNKNOWN"},
		{"bare 502", reply("502 Bad Gateway", "", "<html>"), "SERVICE_UNAVAILABLE", "OUTCOME_UNKNOWN"},
		{"bare 503, JSON of somebody else", reply("503 Service Unavailable", jsonType, `{"error":"down"}`), "SERVICE_UNAVAILABLE", "OUTCOME_UNKNOWN"},
		{"the service says unavailable", reply("503 Service Unavailable", jsonType, `{"code":"unavailable","message":"ours"}`), `"ours"`, `"ours"`},
		{"an RPC error", reply("409 Conflict", jsonType, `{"code":"aborted","message":"ours"}`), `"ours"`, `"ours"`},
		{"plain HTTP", reply("418 I'm a teapot", "", "short and stout"), "short and stout", "short and stout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := front(t, raw(t, c.answer))
			for path, want := range map[string]string{repeatable: c.repeatable, undeclared: c.undeclared} {
				res, got := fetch(t, request(t, url+path, strings.NewReader("{}"), "Content-Type: application/json"))
				if !strings.Contains(got, want) {
					t.Errorf("%s: got %d %s, want %s", path, res.StatusCode, got, want)
				}
				if safe := res.Header.Get("Retry-After") != ""; safe != (want == "SERVICE_UNAVAILABLE") {
					t.Errorf("%s: Retry-After = %q", path, res.Header.Get("Retry-After"))
				}
			}
		})
	}
}

// A call is never cut for being slow: nothing but the caller's deadline ends it.
func TestSlowCallPasses(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ int, client *http.Client) {
		url := behind(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			select {
			case <-time.After(1200 * time.Millisecond): // longer than the dial may take
				_, _ = io.WriteString(w, "slow")
			case <-r.Context().Done():
			}
		})
		res, err := client.Do(request(t, url+repeatable, strings.NewReader("{}")))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != "slow" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}
