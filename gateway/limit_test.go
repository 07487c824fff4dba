package gateway_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"holdline/gateway"
	"holdline/internal/freeport"
)

// Calls over the limit are refused, safe to be sent again, in every protocol;
// health is told, and once calls have ended others pass.
func TestMaxCalls(t *testing.T) {
	t.Parallel()
	const most = 3
	entered, leave := make(chan struct{}), make(chan struct{})
	service := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Stay") != "" {
			entered <- struct{}{}
			<-leave
		}
		_, _ = w.Write([]byte("{}"))
	}))
	url := "http://" + serve(t, configured(t, gateway.Config{MaxCalls: most}, "http://"+service))
	var calls sync.WaitGroup
	for range most {
		calls.Go(func() {
			if got := connect2.call(t, client(t, 2), url, get, "Stay: 1"); got.what != "ok" {
				t.Errorf("a call within the limit: caller read %q", got.what)
			}
		})
		<-entered
	}
	for _, p := range all {
		for _, m := range []method{get, add, watch, schemaless} {
			if got := p.call(t, client(t, p.major), url, m); got.what != again {
				t.Errorf("%s, %s: caller read %q, want %q", p.name, m.name, got.what, again)
			}
		}
	}
	res, err := client(t, 1).Do(request(t, url+"/grpc.health.v1.Health/Check", strings.NewReader("{}"), "Content-Type: application/json"))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("health: got %d, want 200", res.StatusCode)
	}
	close(leave)
	calls.Wait()
	if got := connect1.call(t, client(t, 1), url, get); got.what != "ok" {
		t.Errorf("after all that: caller read %q, want ok", got.what)
	}
}

// Callers over the limit of held ones get their handles at once.
func TestMaxHeld(t *testing.T) {
	t.Parallel()
	leave := make(chan struct{})
	entered := make(chan struct{}, 1)
	mom := newStandIn(t, func(w http.ResponseWriter, r *http.Request, o offer) {
		if o.number == 1 {
			accept(w, o)
			entered <- struct{}{}
			<-leave
		}
		hold(w, r, o)
	})
	url := "http://" + serve(t, configured(t, gateway.Config{MaxHeld: 1}, "http://"+freeport.Addr(t), mom.addr))
	var first sync.WaitGroup
	first.Go(func() {
		if got := connect2.call(t, client(t, 2), url, add); got.what != "held" {
			t.Errorf("the first caller read %q, want held", got.what)
		}
	})
	<-entered
	for _, asks := range []struct{ prefer, want string }{
		{"wait=60", "wait=0"}, {"", "wait=0"}, {"respond-async, wait=5", "respond-async, wait=0"},
		{"respond-async", "respond-async"}, {"wait=0", "wait=0"}, // who wants no hold is not counted
	} {
		if got := connect2.call(t, client(t, 2), url, add, "Prefer: "+asks.prefer); got.what != "held" {
			t.Errorf("Prefer: %s: caller read %q, want held", asks.prefer, got.what)
		}
		offers := mom.got()
		if got := offers[len(offers)-1].header.Get("Prefer"); got != asks.want {
			t.Errorf("Prefer: %s: MOM was asked for %q, want %q", asks.prefer, got, asks.want)
		}
	}
	connect2.call(t, client(t, 2), url, add, "Idempotency-Key: a")
	if offers := mom.got(); offers[len(offers)-1].header.Get("Prefer") != "wait=0" {
		t.Errorf("with a key: MOM was asked for %q, want wait=0", offers[len(offers)-1].header.Get("Prefer"))
	}
	close(leave)
	first.Wait()
	connect2.call(t, client(t, 2), url, add, "Prefer: wait=60")
	offers := mom.got()
	if got := offers[len(offers)-1].header.Get("Prefer"); got != "wait=60" {
		t.Errorf("with room again: MOM was asked for %q, want wait=60", got)
	}
}
