package gateway_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/grpchealth"
)

// relay is a way to a server that can fall silent, as a frozen process does: its
// kernel accepts connections and takes what is sent, and nothing comes back.
type relay struct {
	addr   string
	frozen atomic.Bool
}

func newRelay(tb testing.TB, to string) *relay {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	r := &relay{addr: ln.Addr().String()}
	ctx, stop := context.WithCancel(context.Background())
	var pumps sync.WaitGroup
	pump := func(to, from net.Conn) {
		defer func() { _, _ = to.Close(), from.Close() }()
		piece := make([]byte, 32<<10)
		for {
			n, err := from.Read(piece)
			if err != nil {
				return
			}
			if r.frozen.Load() {
				continue
			}
			if _, err := to.Write(piece[:n]); err != nil {
				return
			}
		}
	}
	pumps.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			closing := context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
			pumps.Go(func() { defer closing(); pump(near, far) })
			pumps.Go(func() { pump(far, near) })
		}
	})
	tb.Cleanup(func() {
		stop()
		_ = ln.Close()
		pumps.Wait()
	})
	return r
}

// silentTime is the longest that a call may wait for a silent service: what is
// promised is 4 s, and the rest is for a busy machine.
const silentTime = 12 * time.Second

// A service that is frozen keeps nobody for longer than it takes to be found silent.
func TestFrozenService(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, major int, client *http.Client) {
		for _, c := range []struct {
			name, path, want string
			body             io.Reader
			offers           int
		}{
			{"undeclared", add.path, "OUTCOME_UNKNOWN", strings.NewReader("{}"), 0},
			{"repeatable", put.path, "{}", strings.NewReader("{}"), 1},
			{"repeatable without a message", put.path, "{}", http.NoBody, 1},
			{"stream", watch.path, "OUTCOME_UNKNOWN", strings.NewReader("{}"), 0},
			{"half a stream", watch.path, "OUTCOME_UNKNOWN", io.MultiReader(strings.NewReader("{}"), waits{t.Context()}), 0},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				var seen atomic.Int64
				service := newRelay(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					seen.Add(1)
					_, _ = io.WriteString(w, "{}")
				})))
				mom := newStandIn(t, nil)
				url := frontMOM(t, "http://"+service.addr, mom.addr)
				ask := func(body io.Reader) string {
					ctx, cancel := context.WithTimeout(t.Context(), silentTime)
					defer cancel()
					res, err := client.Do(request(t, url+c.path, body, "Content-Type: application/json").WithContext(ctx))
					if err != nil {
						t.Fatal(err)
					}
					defer func() { _ = res.Body.Close() }()
					raw, _ := io.ReadAll(res.Body)
					return string(raw)
				}
				if got := ask(strings.NewReader("{}")); got != "{}" {
					t.Fatalf("before: got %q", got)
				}
				service.frozen.Store(true)
				if got := ask(c.body); !strings.Contains(got, c.want) {
					t.Errorf("got %q, want %s", got, c.want)
				}
				offers := mom.got()
				if len(offers) != c.offers {
					t.Fatalf("%d offers to the MOM, want %d", len(offers), c.offers)
				}
				for _, o := range offers {
					if o.cause != "silent" {
						t.Errorf("handed off for %q, want silent", o.cause)
					}
				}
				service.frozen.Store(false)
				before := seen.Load()
				deadline := time.After(30 * time.Second)
				for tick := time.NewTicker(20 * time.Millisecond); seen.Load() == before; {
					select {
					case <-tick.C:
						_ = ask(strings.NewReader("{}"))
					case <-deadline:
						t.Fatal("the service is back, and gets no calls")
					}
				}
			})
		}
	})
}

// waits is a body of which nothing more comes.
type waits struct{ ctx context.Context }

func (w waits) Read([]byte) (int, error) {
	<-w.ctx.Done()
	return 0, io.EOF
}

// A service that was frozen gets calls again when it is not, whatever its route says of its health.
func TestFrozenServiceReturns(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"", ";health=name", ";health=overall", ";health=dial", ";health=dial;http=1", ";health=dial;http=2"} {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			path, health := grpchealth.NewHandler(grpchealth.NewStaticChecker(faultService))
			service := newRelay(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case !strings.HasPrefix(r.URL.Path, path):
				case option == ";health=name":
					health.ServeHTTP(w, r)
					return
				default:
					w.WriteHeader(http.StatusNotFound)
				}
				_, _ = io.WriteString(w, "{}")
			})))
			url, client := "http://"+serve(t, newGateway(t, "http://"+service.addr+option)), client(t, 1)
			if got := connect1.call(t, client, url, add); got.what != "ok" {
				t.Fatalf("the first caller read %q, want ok", got.what)
			}
			service.frozen.Store(true)
			if got := connect1.call(t, client, url, add); got.what == "ok" {
				t.Errorf("of a frozen service, the caller read %q", got.what)
			}
			service.frozen.Store(false)
			for began := time.Now(); ; {
				got := connect1.call(t, client, url, add)
				if got.what == "ok" {
					return
				}
				if time.Since(began) > silentTime {
					t.Fatalf("the service is back, and the caller still reads %q", got.what)
				}
			}
		})
	}
}

// A stream that has begun ends when its service is silent.
func TestFrozenStream(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, major int, client *http.Client) {
		service := newRelay(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})))
		ctx, cancel := context.WithTimeout(t.Context(), silentTime)
		defer cancel()
		res, err := client.Do(request(t, frontMOM(t, "http://"+service.addr)+watch.path, http.NoBody).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		service.frozen.Store(true)
		if _, err := io.ReadAll(res.Body); err == nil || ctx.Err() != nil {
			t.Errorf("the stream ended with %v, want it broken within %v", err, silentTime)
		}
		_ = res.Body.Close()
	})
}

// A service that is slow, and answers its health in whatever way, is left alone.
func TestSlowIsNotSilent(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, major int, client *http.Client) {
		for name, health := range map[string]http.HandlerFunc{
			"without health": http.NotFound,
			"broken health":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
			"closing":        func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				asked := make(chan struct{}, 100)
				url := frontMOM(t, "http://"+serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") {
						asked <- struct{}{}
						health(w, r)
						return
					}
					<-asked
					<-asked // a silent one would be cut by now
					_, _ = io.WriteString(w, "slow")
				})))
				res, err := client.Do(request(t, url+add.path, strings.NewReader("{}")))
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = res.Body.Close() }()
				if raw, _ := io.ReadAll(res.Body); string(raw) != "slow" {
					t.Errorf("got %q, want the slow answer", raw)
				}
			})
		}
	})
}
