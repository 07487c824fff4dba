package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdline/gateway"
	"holdline/internal/server"
	"holdline/internal/server/servertest"
)

// victim is a service that answers at once, but for calls with a Hang header:
// these stay until they are cancelled.
type victim struct {
	addr           string // of the gateway before it
	good           map[protocol]*http.Client
	begun, hanging atomic.Int64
}

// ServeHTTP implements http.Handler.
func (v *victim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Hang") == "" {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "{}")
		return
	}
	v.begun.Add(1)
	v.hanging.Add(1)
	defer v.hanging.Add(-1)
	<-r.Context().Done()
}

// Whatever hostile callers do, good ones are served meanwhile and after, the
// service is not taken for one that is down, and nothing is left behind.
func TestHostile(t *testing.T) { //nolint:paralleltest // it counts goroutines and bytes
	const (
		during = 128 << 20 // bytes that an attack may occupy, both sides of it, gateway and service
		after  = 4 << 20   // bytes that may come and go by themselves
		idle   = 64        // and goroutines: of connections to the service, too
	)
	for _, c := range attacks {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			v := new(victim)
			g := configured(t, gateway.Config{}, "http://"+serve(t, v))
			// A caller has as long to answer a ping as a connection may be idle, and a slow machine is under attack.
			v.addr, _ = servertest.Run(t, server.Config{Handler: g, Limits: server.Limits{HeaderTimeout: 500 * time.Millisecond, IdleTimeout: 5 * time.Second}})
			v.good = map[protocol]*http.Client{connect1: client(t, 1), connect2: client(t, 2)}
			v.callGood(t)
			bytes, goroutines := heap(), runtime.NumGoroutine()

			attacked := make(chan struct{})
			go func() {
				defer close(attacked)
				c.attack(t, v)
			}()
			for under := true; under; {
				v.callGood(t)
				if got := heap(); got > bytes+during {
					t.Errorf("%d MiB occupied, want %d at most", (got-bytes)>>20, during>>20)
				}
				select {
				case <-attacked:
					under = false
				default:
				}
			}
			v.callGood(t)
			settle(t, func() error {
				if got := v.hanging.Load(); got > 0 {
					return fmt.Errorf("%d calls hang at the service, whose callers have left", got)
				}
				if got := runtime.NumGoroutine(); got > goroutines+idle {
					return fmt.Errorf("%d goroutines, there were %d", got, goroutines)
				}
				if got := heap(); got > bytes+after {
					return fmt.Errorf("%d bytes in use, there were %d", got, bytes)
				}
				return nil
			})
			t.Logf("%d calls had begun", v.begun.Load())
		})
	}
}

// callGood calls in both versions of HTTP, and wants no more than ever: an answer
// to the first try, and no breaker in sight.
func (v *victim) callGood(t *testing.T) {
	t.Helper()
	var callers sync.WaitGroup
	for p, client := range v.good {
		callers.Go(func() {
			for range 50 {
				if got := p.call(t, client, "http://"+v.addr, add); got.what != "ok" || got.decision != "direct;try=1 → passed" {
					t.Errorf("%s: a good caller read %q, decision %s", p.name, got.what, got.decision)
					return
				}
			}
		})
	}
	callers.Wait()
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// settle waits until there is no error.
func settle(t *testing.T, so func() error) {
	t.Helper()
	tick, patience := time.NewTicker(20*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for {
		err := so()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-patience:
			t.Fatalf("not within 20 s: %v", err)
		}
	}
}
