package gateway_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdline/internal/freeport"
	"holdline/internal/server"
)

// load calls from several callers at once until it is ended, and fails the test
// for every call that failed. do makes one call.
type load struct {
	calls atomic.Int64
	stop  context.CancelFunc
	done  sync.WaitGroup
}

func newLoad(tb testing.TB, callers int, do func() string) *load {
	tb.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop}
	for range callers {
		l.done.Go(func() {
			for ctx.Err() == nil {
				if got := do(); got != "ok" {
					tb.Errorf("call %d: caller read %q, want ok", l.calls.Load(), got)
					return
				}
				l.calls.Add(1)
			}
		})
	}
	tb.Cleanup(l.end)
	return l
}

// more waits for so many more calls, of all or of one replica.
func more(tb testing.TB, count *atomic.Int64, calls int64) {
	tb.Helper()
	tick, patience := time.NewTicker(time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for end := count.Load() + calls; count.Load() < end && !tb.Failed(); {
		select {
		case <-tick.C:
		case <-patience:
			tb.Fatal("no calls for 20 s")
		}
	}
}

func (l *load) end() {
	l.stop()
	l.done.Wait()
}

// replica is one endpoint of a service. Its calls take a moment, so that there
// are always some under way.
type replica struct {
	addr  string
	http  *http.Server
	calls atomic.Int64
	done  chan struct{}
}

func newReplica(tb testing.TB, addr string) *replica {
	tb.Helper()
	return newReplicaOf(tb, addr, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		<-time.After(time.Millisecond)
		_, _ = io.WriteString(w, "{}")
	})
}

// newReplicaOf is newReplica with another answer to a call.
func newReplicaOf(tb testing.TB, addr string, serve http.HandlerFunc) *replica {
	tb.Helper()
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	r := &replica{addr: ln.Addr().String(), done: make(chan struct{})}
	r.http = &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/grpc.health.v1.Health/") {
			http.NotFound(w, req) // healthy: there is a server, without health
			return
		}
		r.calls.Add(1)
		serve(w, req)
	})}
	r.http.Protocols.SetHTTP1(true)
	r.http.Protocols.SetUnencryptedHTTP2(true)
	go func() {
		defer close(r.done)
		_ = r.http.Serve(ln)
	}()
	tb.Cleanup(r.kill)
	return r
}

// kill cuts every call; remove lets them end.
func (r *replica) kill() {
	_ = r.http.Close()
	<-r.done
}

func (r *replica) remove(tb testing.TB) {
	tb.Helper()
	if err := r.http.Shutdown(tb.Context()); err != nil {
		tb.Error(err)
	}
	<-r.done
}

// Replicas come, go and die under load, and callers of a repeatable method see
// nothing of it.
func TestReplicas(t *testing.T) {
	t.Parallel()
	for _, p := range []protocol{connect1, connect2} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			one, two := newReplica(t, freeport.Addr(t)), newReplica(t, freeport.Addr(t)) // which they get back
			third := freeport.Addr(t)
			url, client := frontMOM(t, "http://"+one.addr+",http://"+two.addr+",http://"+third), client(t, p.major)
			load := newLoad(t, 4, func() string { return p.call(t, client, url, get).what })
			more(t, &load.calls, 200)
			three := newReplica(t, third) // added
			more(t, &three.calls, 20)
			one.remove(t)
			more(t, &load.calls, 200)
			two.kill()
			more(t, &load.calls, 200)
			one = newReplica(t, one.addr)
			more(t, &one.calls, 20)
			three.remove(t)
			more(t, &load.calls, 200)
			two = newReplica(t, two.addr)
			more(t, &two.calls, 20)
			one.kill()
			more(t, &load.calls, 200)
			load.end()
		})
	}
}

// One of two gateways drains under load. Its callers go to the other one when
// nobody listens any more, and no call of theirs has failed.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	for _, p := range []protocol{connect1, connect2} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			service := newReplica(t, "127.0.0.1:0")
			stays := strings.TrimPrefix(frontMOM(t, "http://"+service.addr), "http://")
			drained := newGateway(t, "http://"+service.addr)
			s, err := server.Listen(server.Config{Addr: "127.0.0.1:0", Handler: drained, Drain: drained.Drain, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, terminate := context.WithCancel(context.Background())
			gone := make(chan error, 1)
			go func() { gone <- s.Run(ctx) }()
			t.Cleanup(terminate)

			client := client(t, p.major)
			var redialled atomic.Bool
			client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, s.Addr())
				if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) {
					redialled.Store(true)
					return new(net.Dialer).DialContext(ctx, network, stays)
				}
				return conn, err
			}
			load := newLoad(t, 4, func() string {
				req := p.request(t, "http://gateways", get)
				res, err := client.Do(req)
				if err != nil {
					return err.Error()
				}
				defer func() { _ = res.Body.Close() }()
				if raw, err := io.ReadAll(res.Body); err != nil || string(raw) != "{}" || res.StatusCode != http.StatusOK {
					return res.Status + " " + string(raw)
				}
				return "ok"
			})
			more(t, &load.calls, 300)
			terminate()
			if err := <-gone; err != nil {
				t.Errorf("drain: %v", err)
			}
			more(t, &load.calls, 300)
			load.end()
			if !redialled.Load() {
				t.Error("no call was redialled: nothing was drained")
			}
		})
	}
}
