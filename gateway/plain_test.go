package gateway_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http2"

	"holdline/gateway"
	engine "holdline/internal/wire"
)

// noting is a gateway that counts what it serves as plain calls, and what it begins so.
type noting struct {
	*gateway.Gateway
	served, begun atomic.Int64
}

func (n *noting) ServePlain(req *engine.Request) (*engine.Response, http.Handler) {
	res, next := n.Gateway.ServePlain(req)
	switch {
	case res != nil:
		n.served.Add(1)
	case next != nil:
		n.begun.Add(1)
	}
	return res, next
}

// notingFine is one before a service that is well, and where it listens.
func notingFine(tb testing.TB) (g *noting, addr string) {
	tb.Helper()
	g = &noting{Gateway: newGateway(tb, "http://"+newFaulty(tb, fine).addr)}
	return g, serve(tb, g)
}

// pairs are the versions of HTTP that a caller and a service speak.
var pairs = [][2]int{{2, 2}, {1, 1}, {1, 2}, {2, 1}}

func skipWithout(t *testing.T) {
	t.Helper()
	if engine.DefaultEngine.IsNetHTTP() {
		t.Skip("the engine of net/http has no plain calls")
	}
}

// The table holds for calls that were begun as plain ones. What is decided of them is told by TestTable.
func TestTableOfPlainCalls(t *testing.T) {
	t.Parallel()
	skipWithout(t)
	for _, c := range table {
		for _, p := range c.over {
			if c.fault.act == nil || c.method.stream || c.method.size > 0 || c.method == schemaless || p.name == web.name {
				continue
			}
			t.Run(strings.ReplaceAll(c.method.name+"/"+c.fault.name+"/"+p.name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				service, mom := newFaulty(t, c.fault), newStandIn(t, nil)
				g := &noting{Gateway: newGateway(t, "http://"+service.addr+c.fault.options, mom.addr)}
				url := "http://" + serve(t, g)
				service.spare()
				if got := p.call(t, client(t, p.major), url, get); got.what != "ok" {
					t.Fatalf("the first call: caller read %q, want ok", got.what)
				}
				p.quiet = true
				// On another connection: net/http may have begun to read a request that comes right after another.
				if got := p.call(t, client(t, p.major), url, c.method); got.what != c.caller {
					t.Errorf("caller read %q, want %q", got.what, c.caller)
				}
				if n := g.served.Load() + g.begun.Load(); n != 1 {
					t.Errorf("%d calls were begun as plain ones, want 1", n)
				}
				if seen := service.seen(); seen != c.seen {
					t.Errorf("service saw %s requests begun/whole, want %s", seen, c.seen)
				}
				if offers := mom.got(); (len(ids(offers)) == 1) != (c.end == stored) {
					t.Errorf("MOM got %v; the call was %s", offers, c.end)
				}
			})
		}
	}
}

// Plain calls are as any other: the service sees the same, the caller reads the same, and the same is counted.
func TestPlainIsAsAnyOther(t *testing.T) {
	t.Parallel()
	skipWithout(t)
	say := func(status int, body string, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
			set(w.Header(), headers)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	// trailers end a gRPC answer.
	say2 := func(body string, trailers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
			_, _ = io.WriteString(w, body)
			for _, t := range trailers {
				set(w.Header(), []string{http.TrailerPrefix + t})
			}
		}
	}
	inConnect, inGRPC := []string{"Content-Type: application/json"}, []string{"Content-Type: application/grpc", "Te: trailers"}
	message := envelope(0, "")
	for _, c := range []struct {
		name    string
		headers []string
		body    string
		service http.HandlerFunc
		plain   int64 // 1: it is served as a plain call
	}{
		{"Connect", inConnect, "{}", say(200, "{}", "X-Answer: a", "Vary: X"), 1},
		{"gRPC", inGRPC, message, say2(message, "Grpc-Status: 0", "X-After: b"), 1},
		{"a deadline in Connect", append(inConnect, "Connect-Timeout-Ms: 10000"), "{}", say(200, "{}"), 1},
		{"a deadline in gRPC", append(inGRPC, "Grpc-Timeout: 10S"), message, say2(message, "Grpc-Status: 0"), 1},
		{"a deadline that is none", append(inConnect, "Connect-Timeout-Ms: soon"), "{}", say(200, "{}"), 0},
		{"a deadline that is over", append(inGRPC, "Grpc-Timeout: 0S"), message, say2(message, "Grpc-Status: 0"), 0},
		{"a deadline of the other protocol", append(inConnect, "Grpc-Timeout: soon"), "{}", say(200, "{}"), 1},
		{"no body", inConnect, "", say(200, "{}"), 1},
		{"no answer", inConnect, "{}", say(200, ""), 1},
		{"an encoding", append(inConnect, "Accept-Encoding: br", "Content-Encoding: identity"), "{}", say(200, "{}", "Content-Encoding: br"), 1},
		{"a cookie", append(inConnect, "Cookie: a=b"), "{}", say(200, "{}", "Set-Cookie: a=b"), 1},
		{"cookies", append(inConnect, "Cookie: a=b; c=d"), "{}", say(200, "{}"), 1},
		{"a user agent", append(inConnect, "User-Agent: me"), "{}", say(200, "{}", "Server: it", "Date: now"), 1},
		{"hop-by-hop headers of the answer", inConnect, "{}", say(200, "{}", "Te: a", "Proxy-Authenticate: b"), 1},
		{"hop-by-hop headers of the call", append(inConnect, "Proxy-Authorization: a"), "{}", say(200, "{}"), 0},
		{"hop-by-hop trailers", inGRPC, message, say2(message, "Grpc-Status: 0", "Te: a"), 1},
		{"headers of our own", append(inConnect, "Holdline-Ttl: 1m", "Holdline-Caller: forged"), "{}", say(200, "{}"), 0},
		{"a time to live", append(inConnect, "Holdline-Ttl: 1m"), "{}", say(200, "{}"), 1},
		{"a time to live that is none", append(inConnect, "Holdline-Ttl: 1"), "{}", say(200, "{}"), 0},
		{"such headers of the answer", inConnect, "{}", say(200, "{}", "Holdline-Decision: a"), 1},
		{"trailers are welcome", append(inConnect, "Te: trailers"), "{}", say(200, "{}"), 1},
		{"a preference", append(inConnect, "Prefer: wait=1"), "{}", say(200, "{}"), 0},
		{"a key", append(inConnect, "Idempotency-Key: \"a\""), "{}", say(200, "{}"), 0},
		{"a question before the body", append(inConnect, "Expect: 100-continue"), "{}", say(200, "{}"), 0},
		{"large headers", append(inConnect, "X-Large: "+strings.Repeat("a", 5000)), "{}", say(200, "{}"), 0},
		{"many headers", append(inConnect, "X-A: 1", "X-B: 2", "X-C: 3", "X-D: 4"), "{}", say(200, "{}"), 1},
		{"a large body", inConnect, strings.Repeat(" ", engine.MaxPlain+1), say(200, "{}"), 0},
		{"a body of the largest size", inConnect, strings.Repeat(" ", engine.MaxPlain), say(200, "{}"), 1},
		{"a large answer", inConnect, "{}", say(200, strings.Repeat(" ", engine.MaxPlain+1)), 0},
		{"an answer of the largest size", inConnect, "{}", say(200, strings.Repeat(" ", engine.MaxPlain)), 1},
		{"an error in Connect", inConnect, "{}", say(404, `{"code":"not_found"}`), 1},
		{"an error with a status that has no name", inConnect, "{}", say(499, `{"code":"canceled"}`), 1},
		{"an error in chunks", inConnect, "{}", func(w http.ResponseWriter, r *http.Request) {
			say(500, `{"code":`)(w, r)
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, `"internal"}`)
		}, 1},
		{"a service that is not there, in Connect", inConnect, "{}", say(503, `{"code":"unavailable"}`), 0},
		{"too much, in Connect", inConnect, "{}", say(429, `{"code":"resource_exhausted"}`), 0},
		{"a type that the service lacks", inConnect, "{}", say(415, `{"code":"unknown"}`), 0},
		{"a status of HTTP that is no error", inConnect, "{}", say(302, "{}", "Location: /"), 0},
		{"an error in gRPC", inGRPC, message, say2("", "Grpc-Status: 5", "Grpc-Message: none"), 1},
		{"an error in gRPC that is none", inGRPC, message, say2(message, "Grpc-Status: x"), 1},
		{"too much, in gRPC", inGRPC, message, say2("", "Grpc-Status: 8"), 0},
		{"another status of HTTP", inGRPC, message, say(404, "", "Grpc-Status: 5"), 0},
		{"an error after a message", inGRPC, message, say2(message, "Grpc-Status: 14"), 0},
		{"trailers only", inGRPC, message, say(200, "", "Grpc-Status: 5", "Grpc-Message: none"), 1},
		{"trailers only that tell of nobody", inGRPC, message, say(200, "", "Grpc-Status: 14"), 0},
		{"trailers before a message", inGRPC, message, say(200, message, "Grpc-Status: 5"), 0},
		{"no status", inGRPC, message, say2(message), 0},
		{"a type that is none of ours", []string{"Content-Type: text/plain"}, "{}", say(200, "{}"), 0},
		{"a type that is empty", []string{"Content-Type: "}, "{}", say(200, "{}"), 0},
		{"a deadline that is empty", append(inConnect, "Connect-Timeout-Ms: "), "{}", say(200, "{}"), 0},
		{"a type with a parameter", []string{"Content-Type: application/json; charset=utf-8"}, "{}", say(200, "{}"), 0},
		{"an answer of another type", inConnect, "{}", say(200, "{}", "Content-Type: text/plain"), 0},
		{"something before the answer", inConnect, "{}", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			say(200, "{}")(w, r)
		}, 0},
		{"an answer in pieces", inConnect, "{}", func(w http.ResponseWriter, r *http.Request) {
			say(200, "{")(w, r)
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "}")
		}, 1},
		{"trailers in Connect", inConnect, "{}", func(w http.ResponseWriter, r *http.Request) {
			say(200, "{}")(w, r)
			_ = http.NewResponseController(w).Flush()
			w.Header().Set(http.TrailerPrefix+"X-After", "b")
		}, 0},
		{"no content", inConnect, "{}", say(204, ""), 0},
		{"an answer in gRPC", inConnect, "{}", say(200, "{}", "Content-Type: application/grpc", "Grpc-Status: 12"), 0},
	} {
		for _, origins := range [][]string{nil, {"https://app.example"}} {
			for _, majors := range pairs {
				if majors != [2]int{2, 2} && c.headers[0] == inGRPC[0] {
					continue
				}
				t.Run(strings.ReplaceAll(c.name+fmt.Sprint(origins, majors), " ", "-"), func(t *testing.T) {
					t.Parallel()
					one, another := newWitness(t, c.service, origins, majors, true), newWitness(t, c.service, origins, majors, false)
					// The second is tried once only: when five tries have failed, the breaker opens, and how soon it closes is a race.
					for _, m := range []method{get, add} {
						got, want := one.call(t, m, c.headers, c.body), another.call(t, m, c.headers, c.body)
						if !reflect.DeepEqual(got, want) {
							t.Errorf("as a plain call:\n%v\nas any other:\n%v", got, want)
						}
					}
					want := c.plain
					if c.name == "cookies" && majors == [2]int{2, 1} {
						want = 0 // they come in crumbs
					}
					for more := 0; more < 5 && one.g.served.Load() < want; more++ {
						one.call(t, add, c.headers, c.body) // on a busy machine, the body of the one before may have come late
					}
					if n := one.g.served.Load(); n != want {
						t.Errorf("%d calls were served as plain ones, want %d", n, want)
					}
				})
			}
		}
	}
}

// A plain call that its service does not answer ends as any other: when its caller leaves, at its deadline, and at the timeout of the route.
func TestEndOfAPlainCall(t *testing.T) {
	t.Parallel()
	skipWithout(t)
	for _, c := range []struct {
		name, options string
		headers       []string
		leave         bool
		want          string
	}{
		{"its caller leaves", "", nil, true, "broken"},
		{"a deadline", "", []string{"Connect-Timeout-Ms: 100"}, false, "deadline_exceeded"},
		{"a try-timeout", ";try-timeout=500ms", nil, false, again}, // in which the first call has to be answered
		{"a deadline before the try-timeout", ";try-timeout=1m", []string{"Connect-Timeout-Ms: 100"}, false, "deadline_exceeded"},
	} {
		for _, majors := range pairs {
			t.Run(strings.ReplaceAll(c.name+fmt.Sprint(majors), " ", "-"), func(t *testing.T) {
				t.Parallel()
				service := newFaulty(t, fault{act: func(x *exchange) { x.silent = true }})
				service.spare()
				g := &noting{Gateway: newGateway(t, fmt.Sprintf("http://%s;http=%d%s", service.addr, majors[1], c.options))}
				url, p := "http://"+serve(t, g), connect2
				if p.quiet = true; p.call(t, client(t, majors[0]), url, get).what != "ok" {
					t.Fatal("the first call failed")
				}
				client := client(t, majors[0])
				if c.leave {
					client.Timeout = 100 * time.Millisecond
				}
				if got := p.call(t, client, url, get, c.headers...); got.what != c.want {
					t.Errorf("caller read %q, want %q", got.what, c.want)
				}
				service.awaitLeft(t)
				if n := g.begun.Load(); n != 1 {
					t.Errorf("%d calls were begun as plain ones, want 1", n)
				}
			})
		}
	}
}

// A message may come in another frame than its headers. One that takes its time makes the call one as any other.
func TestMessageOfAPlainCall(t *testing.T) {
	t.Parallel()
	skipWithout(t)
	g, addr := notingFine(t)
	for i, pause := range []time.Duration{0, 0, 100 * time.Millisecond, 0} {
		caller := dial2(t, addr)
		id := caller.headers(t, false, get.path, "content-type: application/json")
		time.Sleep(pause)
		_ = caller.framer.WriteData(id, true, []byte("{}"))
		if got := caller.status(t, id); got != "200" {
			t.Errorf("call %d: status %q, want 200", i, got)
		}
	}
	// The first call found no connection, and the third was too slow. On a slow machine all may be.
	if n := g.served.Load(); n > 2 {
		t.Errorf("%d calls were served as plain ones, want at most 2", n)
	}
}

// What was begun as a plain call, and breaks, is sent again as it came.
func TestBrokenPlainCallIsSentAgain(t *testing.T) {
	t.Parallel()
	skipWithout(t)
	for _, majors := range pairs {
		for _, size := range []int{100, 3000, 4000, 8000, engine.MaxPlain} { // for which there is just enough room, or much
			t.Run(fmt.Sprint(majors, size), func(t *testing.T) {
				t.Parallel()
				body, breaks := strings.Repeat("0123456789abcdef", size/16+1)[:size], atomic.Bool{}
				service := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path != get.path {
						http.NotFound(w, r)
						return
					}
					if came, err := io.ReadAll(r.Body); err != nil || string(came) != body {
						t.Errorf("the service got %d bytes, %.40q, and %v", len(came), came, err)
					}
					if breaks.CompareAndSwap(true, false) {
						panic(http.ErrAbortHandler)
					}
					w.Header().Set("Content-Type", "application/json")
					_, _ = io.WriteString(w, "{}")
				}))
				g := &noting{Gateway: newGateway(t, fmt.Sprintf("http://%s;http=%d", service, majors[1]))}
				url := "http://" + serve(t, g)
				client := client(t, majors[0])
				for range 6 {
					client.CloseIdleConnections()
					res, err := client.Do(request(t, url+get.path, strings.NewReader(body), "Content-Type: application/json"))
					if err != nil {
						t.Fatal(err)
					}
					if _ = res.Body.Close(); res.StatusCode != http.StatusOK {
						t.Fatalf("got %s", res.Status)
					}
					if g.begun.Load() > 0 {
						return
					}
					breaks.Store(true)
				}
				t.Error("no call was begun as a plain one")
			})
		}
	}
}

// An answer that its caller does not read ends soon after the caller's deadline.
func TestUnreadPlainAnswer(t *testing.T) {
	t.Parallel()
	skipWithout(t)
	g, addr := notingFine(t)
	warm := dial2(t, addr)
	if got := warm.status(t, warm.headers(t, true, get.path, "content-type: application/json")); got != "200" {
		t.Fatalf("the first call: status %q", got)
	}
	caller := dial2(t, addr)
	_ = caller.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	caller.settled(t)
	id := caller.headers(t, true, get.path, "content-type: application/json", "connect-timeout-ms: 200")
	if got := caller.status(t, id); got != "200" || g.served.Load() != 1 {
		t.Errorf("status %q, and %d calls were served as plain ones; want 200 and 1", got, g.served.Load())
	}
	if frame, ok := caller.read(t, id).(*http2.RSTStreamFrame); !ok {
		t.Errorf("got %v, want a reset", frame)
	}
}

func set(header http.Header, fields []string) {
	for _, f := range fields {
		key, value, _ := strings.Cut(f, ": ")
		header[key] = []string{value}
	}
}

// witness is a gateway before a service, that knows what both have seen.
type witness struct {
	url     string
	client  *http.Client
	g       *noting
	metrics *prometheus.Registry
	seen    chan string
}

// newWitness has the caller, and the service, speak these versions of HTTP.
func newWitness(tb testing.TB, service http.HandlerFunc, origins []string, majors [2]int, plain bool, moms ...string) *witness {
	tb.Helper()
	w := &witness{metrics: prometheus.NewRegistry(), seen: make(chan string, 10)}
	addr := serve(tb, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/"+faultService) {
			http.NotFound(rw, r) // its health
			return
		}
		body, err := io.ReadAll(r.Body)
		w.seen <- fmt.Sprint(r.Method, r.Host, r.RequestURI, sorted(r.Header), len(body), err)
		rw.Header()["Date"] = nil
		service(rw, r)
	}))
	w.g = &noting{Gateway: configured(tb, gateway.Config{CORSOrigins: origins, Metrics: w.metrics}, fmt.Sprintf("http://%s;http=%d", addr, majors[1]), moms...)}
	if plain {
		w.url = "http://" + serve(tb, w.g)
	} else {
		w.url = "http://" + serve(tb, http.HandlerFunc(w.g.ServeHTTP))
	}
	w.client = client(tb, majors[0]) // after the servers: they wait for its connections when they end
	return w
}

// call makes a call, and returns what there is to say of it.
func (w *witness) call(tb testing.TB, m method, headers []string, body string) (all []string) {
	tb.Helper()
	w.client.CloseIdleConnections() // net/http may have begun to read a request that comes right after another
	req := request(tb, w.url+m.path, strings.NewReader(body), headers...)
	req.Host = "gateway.example"
	res, err := w.client.Do(req)
	if err != nil {
		return []string{err.Error()}
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if date := res.Header.Get("Date"); date != "" && date != "now" {
		res.Header.Set("Date", "today") // of an error of the gateway's own: a second may pass between two calls
	}
	if res.ProtoMajor == 1 {
		res.Header.Del("Content-Length") // or it is chunked: of a plain call, the length is known
	}
	all = append(all, fmt.Sprint(res.Status, sorted(res.Header), string(answer), err, sorted(res.Trailer)))
	select {
	case seen := <-w.seen:
		all = append(all, seen)
	default:
	}
	families, err := w.metrics.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			count := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			if count > 0 {
				all = append(all, fmt.Sprint(f.GetName(), m.GetLabel(), count))
			}
		}
	}
	return all
}

// sorted is a header as text.
func sorted(header http.Header) (all []string) {
	for _, key := range slices.Sorted(maps.Keys(header)) {
		all = append(all, fmt.Sprintf("%s: %q", key, header[key]))
	}
	return all
}
