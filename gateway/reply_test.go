package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/internal/freeport"
)

// What a MOM says of itself is not the service's word: a caller hears that its call
// is not stored, and that it may be sent again, or that nobody knows.
func TestMOMSpeaksOfItself(t *testing.T) {
	t.Parallel()
	const none = "unavailable STORE_UNAVAILABLE retry"
	say := func(status int, headers ...string) func(http.ResponseWriter, *http.Request, offer) {
		return func(w http.ResponseWriter, _ *http.Request, _ offer) {
			for _, h := range headers {
				key, value, _ := strings.Cut(h, ": ")
				w.Header().Set(key, value)
			}
			w.WriteHeader(status)
			_, _ = fmt.Fprintln(w, "404 page not found")
		}
	}
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request, offer)
		want   string
	}{
		{"no such path", say(404), none},
		{"unknown media type", say(415), none},
		{"headers too large", say(431), "unavailable CALL_NOT_STORABLE retry"},
		{"too many requests", say(429), none},
		{"not implemented", say(501), none},
		{"gRPC unimplemented", say(200, "Content-Type: application/grpc", "Grpc-Status: 12"), none},
		{"gRPC unimplemented in its trailers", func(w http.ResponseWriter, _ *http.Request, _ offer) {
			w.Header().Set("Content-Type", "application/grpc")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "12")
		}, none},
		{"another version of HTTP", say(505), none},
		{"gRPC unavailable", say(200, "Content-Type: application/grpc", "Grpc-Status: 14"), none},
		{"a page", say(200, "Content-Type: text/html"), unclear},
		{"a proxy's 502", say(502), unclear},
		{"a crash", say(500), unclear},
	} {
		for _, p := range all {
			t.Run(strings.ReplaceAll(c.name+"/"+p.name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				url := frontMOM(t, "http://"+freeport.Addr(t), newStandIn(t, c.answer).addr)
				if got := p.call(t, client(t, p.major), url, add, "Prefer: wait=1"); got.what != c.want {
					t.Errorf("caller read %q, want %q", got.what, c.want)
				}
				// Another MOM may know the call.
				url = frontMOM(t, "http://"+freeport.Addr(t), newStandIn(t, c.answer).addr, newStandIn(t, nil).addr)
				if got := p.call(t, client(t, p.major), url, add); got.what != "held" {
					t.Errorf("caller of two MOMs read %q, want it held", got.what)
				}
			})
		}
	}
}

// A refusal is the caller's: it is not stored for what it is.
func TestMOMRefusesCall(t *testing.T) {
	t.Parallel()
	for _, p := range onC {
		url := frontMOM(t, "http://"+freeport.Addr(t), newStandIn(t, func(w http.ResponseWriter, _ *http.Request, _ offer) {
			w.Header().Set(contract.HeaderRefused, contract.RefusedCall)
			w.WriteHeader(http.StatusTeapot)
		}).addr)
		if got := p.call(t, client(t, p.major), url, add); got.what != "HTTP 418" || got.header.Get(contract.HeaderRefused) != "" {
			t.Errorf("%s: caller read %q with %v, want the MOM's 418 without its mark", p.name, got.what, got.header)
		}
	}
}

// A MOM that freezes, before or after it has the call, keeps no caller longer than
// the caller wants: the gateway has a clock of its own.
func TestMOMFreezes(t *testing.T) {
	t.Parallel()
	freeze := func(_ http.ResponseWriter, r *http.Request, _ offer) { <-r.Context().Done() }
	holdOn := func(w http.ResponseWriter, r *http.Request, o offer) {
		accept(w, o)
		<-r.Context().Done()
	}
	for _, p := range all {
		for _, c := range []struct {
			name, header string
			answer       func(http.ResponseWriter, *http.Request, offer)
			want         string
		}{
			{"not stored/wait", "Prefer: wait=1", freeze, unclear},
			{"not stored/deadline", p.deadline(time.Second), freeze, unclear},
			{"stored/wait", "Prefer: wait=1", holdOn, handled},
			{"stored/deadline", p.deadline(time.Second), holdOn, handled},
		} {
			t.Run(strings.ReplaceAll(c.name+"/"+p.name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				mom := newStandIn(t, c.answer)
				url := frontMOM(t, "http://"+freeport.Addr(t), mom.addr)
				got := p.call(t, client(t, p.major), url, add, c.header)
				if got.what != c.want {
					t.Errorf("caller read %q, want %q", got.what, c.want)
				}
				if c.want == handled { // it may wake up, and miss its caller
					mom.awaitKept(t, got.task)
				}
			})
		}
	}
}

// Only the gateway knows that a caller left: it tells a MOM, whatever became of the
// connection that held the call, and says nothing of tasks that outlive their caller.
func TestLeftWhileHeld(t *testing.T) {
	t.Parallel()
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			held := make(chan string, 2)
			mom := newStandIn(t, func(w http.ResponseWriter, r *http.Request, o offer) {
				accept(w, o)
				held <- o.id
				<-r.Context().Done()
			})
			url := frontMOM(t, "http://"+freeport.Addr(t), mom.addr)
			leaveHeld := func(headers ...string) string {
				ctx, leave := context.WithCancel(t.Context())
				left := make(chan struct{})
				go func() {
					defer close(left)
					if res, err := client(t, p.major).Do(p.request(t, url, add, headers...).WithContext(ctx)); err == nil {
						_ = res.Body.Close()
					}
				}()
				id := <-held
				leave()
				<-left
				return id
			}
			keyed := leaveHeld("Idempotency-Key: k")
			mom.awaitAbandoned(t, leaveHeld())
			mom.mu.Lock()
			defer mom.mu.Unlock()
			if len(mom.abandoned) != 1 {
				t.Errorf("abandoned: %v, want nothing of the keyed task %s", mom.abandoned, keyed)
			}
		})
	}
}
