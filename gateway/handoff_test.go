package gateway_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/upstream"
)

// within is how long a MOM has to take a call that surely nobody has, with slack for
// a busy machine; heldWithin is how long a caller waits that is held for a second.
const (
	within     = 500*time.Millisecond + 1500*time.Millisecond
	heldWithin = time.Second + 1500*time.Millisecond
)

func abort(http.ResponseWriter, *http.Request, offer) { panic(http.ErrAbortHandler) }

// noStore is what a MOM says that cannot reach its store.
func noStore(w http.ResponseWriter, r *http.Request, _ offer) {
	w.Header().Set(contract.HeaderRefused, contract.RefusedNow)
	contract.WriteError(w, r, contract.Errorf(momv1.Reason_REASON_STORE_UNAVAILABLE, "not executed"))
}

// mayBeStored is what a MOM says whose store did not answer.
func mayBeStored(w http.ResponseWriter, r *http.Request, _ offer) {
	reason := momv1.Reason_REASON_STORE_UNCERTAIN
	if r.URL.Path == add.path {
		reason = momv1.Reason_REASON_OUTCOME_UNKNOWN
	}
	w.Header().Set(contract.HeaderUnsure, "1")
	contract.WriteError(w, r, contract.Errorf(reason, "it may or may not be stored"))
}

// What a MOM that fails leads to: the caller knows whether to send the call
// again, in time, and every offer of one call bears one id. As long as a MOM may have
// the call, it is asked.
func TestMOMFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request, o offer)
		get    string // what the caller of a repeatable method reads
		add    string // and of an undeclared one
		offers int    // at least
		end    string
	}{
		{"never answers", func(_ http.ResponseWriter, r *http.Request, _ offer) { <-r.Context().Done() }, unsure, unclear, 1, failed},
		{"loses every reply", abort, unsure, unclear, 2, failed},
		{"loses its first reply", func(w http.ResponseWriter, r *http.Request, o offer) {
			if o.number == 1 {
				abort(w, r, o)
			}
			hold(w, r, o)
		}, "held", "held", 2, stored},
		{"dies after its 103", func(w http.ResponseWriter, r *http.Request, o offer) {
			if o.number == 1 {
				accept(w, o)
			}
			abort(w, r, o)
		}, handled, handled, 2, stored},
		{"dies after its 103 and comes back", func(w http.ResponseWriter, r *http.Request, o offer) {
			if o.number == 1 {
				accept(w, o)
				abort(w, r, o)
			}
			hold(w, r, o)
		}, "held", "held", 2, stored},
		{"dies after its 103 and comes back without a store", func(w http.ResponseWriter, r *http.Request, o offer) {
			if o.number == 1 {
				accept(w, o)
				abort(w, r, o)
			}
			noStore(w, r, o)
		}, handled, handled, 2, stored},
		{"does not know at first", func(w http.ResponseWriter, r *http.Request, o offer) {
			if o.number == 1 {
				mayBeStored(w, r, o)
				return
			}
			hold(w, r, o)
		}, "held", "held", 2, stored},
		{"does not know, and then has no store", func(w http.ResponseWriter, r *http.Request, o offer) {
			if o.number == 1 {
				mayBeStored(w, r, o)
				return
			}
			noStore(w, r, o)
		}, unsure, unclear, 2, failed},
		{"loses its first reply, and then its store", func(w http.ResponseWriter, r *http.Request, o offer) {
			if o.number == 1 {
				abort(w, r, o)
			}
			noStore(w, r, o)
		}, unsure, unclear, 2, failed},
	} {
		for m, want := range map[*method]string{&get: c.get, &add: c.add} {
			for _, p := range all {
				t.Run(strings.ReplaceAll(c.name+"/"+m.name+"/"+p.name, " ", "-"), func(t *testing.T) {
					t.Parallel()
					mom := newStandIn(t, c.answer)
					url := frontMOM(t, "http://"+freeport.Addr(t), mom.addr)
					started := time.Now()
					got := p.call(t, client(t, p.major), url, *m, "Prefer: wait=1")
					if took := time.Since(started); got.what != want || took > heldWithin {
						t.Errorf("caller read %q after %s, want %q within %s", got.what, took, want, heldWithin)
					}
					offers := mom.got()
					if len(offers) < c.offers || len(ids(offers)) != 1 {
						t.Errorf("MOM got %d calls with ids %v, want at least %d with one id", len(offers), ids(offers), c.offers)
					}
					for last, o := range offers { // one that is given up on the way has a number too
						got, err := strconv.Atoi(o.header.Get(contract.HeaderOffer))
						if err != nil || got <= last {
							t.Errorf("offer %d says that it is number %d, %v", o.number, got, err)
						}
					}
					if want == handled {
						mom.awaitKept(t, offers[0].id)
					}
					if !strings.Contains(got.decision, "→ "+c.end) {
						t.Errorf("Holdline-Decision: %s, want %s", got.decision, c.end)
					}
				})
			}
		}
	}
}

// A MOM whose time is over while it answers has not answered: its caller must not
// get what there is of it.
func TestMOMAnswersTooLate(t *testing.T) {
	t.Parallel()
	for _, p := range []protocol{grpc, web} { // which are looked into for the status
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			url := frontMOM(t, "http://"+freeport.Addr(t), newStandIn(t, func(w http.ResponseWriter, r *http.Request, _ offer) {
				w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}).addr)
			if got := p.call(t, client(t, p.major), url, add, "Prefer: wait=1"); got.what != unclear {
				t.Errorf("caller read %q, want %q", got.what, unclear)
			}
		})
	}
}

// The caller of a method that no schema has is told why its call is not stored.
func TestNotStoredWithoutASchema(t *testing.T) {
	t.Parallel()
	url := frontMOM(t, "http://"+freeport.Addr(t), freeport.Addr(t)) // nobody is there
	for path, want := range map[string]string{"/" + faultService + "/Nobody": "SERVICE_UNAVAILABLE", get.path: "STORE_UNAVAILABLE"} {
		res, err := client(t, 1).Do(request(t, url+path, strings.NewReader("{}"), "Content-Type: application/json"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if told := strings.Contains(string(body), "no schema has the method "+path); !strings.Contains(string(body), want) || told != (path != get.path) {
			t.Errorf("%s: got %d %s", path, res.StatusCode, body)
		}
	}
}

// Nobody takes the call: the caller learns it in time, with the first cause.
func TestMOMRefused(t *testing.T) {
	t.Parallel()
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			url := frontMOM(t, "http://"+newFaulty(t, bare502).addr, freeport.Addr(t))
			started := time.Now()
			got := p.call(t, client(t, p.major), url, get)
			if took := time.Since(started); got.what != "unavailable STORE_UNAVAILABLE retry" || took > within {
				t.Errorf("caller read %q after %s, want STORE_UNAVAILABLE within %s", got.what, took, within)
			}
			if p.name == connect1.name && !strings.Contains(got.body, "http-502") {
				t.Errorf("caller read %s, want the first cause", got.body)
			}
			if !strings.Contains(got.decision, "→ failed") {
				t.Errorf("Holdline-Decision: %s, want failed", got.decision)
			}
		})
	}
}

// A MOM that dies after its 103 has the call; another one holds it on, under the
// same id.
func TestSecondMOMHolds(t *testing.T) {
	t.Parallel()
	var dead atomic.Bool
	answer := func(w http.ResponseWriter, r *http.Request, o offer) {
		if dead.CompareAndSwap(false, true) {
			accept(w, o)
			abort(w, r, o)
		}
		hold(w, r, o)
	}
	first, second := newStandIn(t, answer), newStandIn(t, answer)
	url := frontMOM(t, "http://"+freeport.Addr(t), first.addr, second.addr)
	got := connect1.call(t, client(t, 1), url, add)
	if got.what != "held" || len(first.got()) != 1 || len(second.got()) != 1 || len(ids(first.got(), second.got())) != 1 {
		t.Errorf("caller read %q, MOMs got %+v and %+v; want one id at each", got.what, first.got(), second.got())
	}
}

// A call whose key names another task has that one's handle, not one of the id that
// it was offered under.
func TestHandleOfTheKeysTask(t *testing.T) {
	t.Parallel()
	const other = "test.v1.FaultService.0.01JD3Z0000000000000000000"
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			url := frontMOM(t, "http://"+freeport.Addr(t), newStandIn(t, func(w http.ResponseWriter, r *http.Request, o offer) {
				o.id = other
				accept(w, o)
				abort(w, r, o)
			}).addr)
			res, err := client(t, p.major).Do(p.request(t, url, add, "Idempotency-Key: k"))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if got := res.Header.Get(contract.HeaderTask); got != other {
				t.Errorf("%s = %q, want %q", contract.HeaderTask, got, other)
			}
		})
	}
}

// Nobody hears that a call is stored of which a living MOM has lost the hold: it gives the task
// up after a while. One that is dead does not.
func TestHoldLostForLong(t *testing.T) {
	t.Parallel()
	for name, dies := range map[string]bool{"lives": false, "dies": true} {
		for m, want := range map[*method]string{&get: "unavailable STORE_UNCERTAIN retry", &add: unclear} {
			t.Run(name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				mom := httptest.NewUnstartedServer(nil)
				mom.Config.Handler = newStandIn(t, func(w http.ResponseWriter, r *http.Request, o offer) {
					if o.number == 1 {
						accept(w, o)
						if dies {
							_ = mom.Listener.Close()
						}
					}
					abort(w, r, o)
				})
				mom.Start()
				t.Cleanup(mom.Close)
				url := frontMOM(t, "http://"+freeport.Addr(t), mom.Listener.Addr().String())
				if dies {
					want = handled
				}
				if got := connect1.call(t, client(t, 1), url, *m, "Prefer: wait=3"); got.what != want {
					t.Errorf("caller read %q, want %q", got.what, want)
				}
			})
		}
	}
}

// However often a MOM dies, a hold ends when the caller wanted it to.
func TestHoldEnds(t *testing.T) {
	t.Parallel()
	url := frontMOM(t, "http://"+freeport.Addr(t), newStandIn(t, func(w http.ResponseWriter, r *http.Request, o offer) {
		accept(w, o)
		abort(w, r, o)
	}).addr)
	for _, header := range []string{"Prefer: wait=1", connect1.deadline(time.Second)} {
		if got := connect1.call(t, client(t, 1), url, get, header); got.what != handled {
			t.Errorf("%s: caller read %q, want a handle", header, got.what)
		}
	}
}

// Calls are offered over HTTP/2, whatever their callers speak, and a MOM hears what that is. Behind a proxy that does not know HTTP/2, they are
// offered over HTTP/1.1.
func TestHop(t *testing.T) {
	t.Parallel()
	var versions sync.Map // by offer
	mom := newStandIn(t, func(w http.ResponseWriter, r *http.Request, o offer) {
		versions.Store(o.id, r.Proto+", of HTTP/"+r.Header.Get(contract.HeaderHTTP))
		hold(w, r, o)
	})
	proxy, _ := acceptRaw(t, func(c net.Conn) {
		began := make([]byte, 3)
		if _, err := io.ReadFull(c, began); err != nil || string(began) == "PRI" {
			return // without a word
		}
		to, err := net.Dial("tcp", mom.addr)
		if err != nil {
			return
		}
		defer func() { _ = to.Close() }()
		_, _ = to.Write(began)
		go func() {
			_, _ = io.Copy(to, c)
			_ = to.Close()
		}()
		_, _ = io.Copy(c, to)
	})
	for _, c := range []struct {
		addr  string
		major int
		large bool
		want  string
	}{
		{mom.addr, 1, false, "HTTP/2.0, of HTTP/1"}, {mom.addr, 2, false, "HTTP/2.0, of HTTP/2"}, {mom.addr, 1, true, "HTTP/1.1, of HTTP/1"},
		{proxy, 1, false, "HTTP/1.1, of HTTP/1"}, {proxy, 2, false, "HTTP/1.1, of HTTP/2"},
	} {
		url := frontMOM(t, "http://"+freeport.Addr(t), c.addr)
		for range 2 {
			headers := []string{"Prefer: respond-async", contract.HeaderHTTP + ": 7"}
			if c.large {
				headers = append(headers, "X-Large: "+strings.Repeat("a", upstream.LargeHeaders))
			}
			if got := connect1.call(t, client(t, c.major), url, get, headers...); got.what != "held" {
				t.Fatalf("%v: caller read %q, want an answer", c, got.what)
			}
			offers := mom.got()
			if got, _ := versions.Load(offers[len(offers)-1].id); got != c.want {
				t.Errorf("%v: offered over %v, want %s", c, got, c.want)
			}
		}
	}
}

// The caller's deadline ends everything, and nothing is stored.
func TestDeadline(t *testing.T) {
	t.Parallel()
	for _, p := range all {
		for _, m := range []method{get, add, bigAdd} {
			t.Run(p.name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				service, mom := newFaulty(t, fault{act: (*exchange).hang}), newStandIn(t, nil)
				url := frontMOM(t, "http://"+service.addr, mom.addr)
				got := p.call(t, client(t, p.major), url, m, p.deadline(time.Second)) // time for the service to see it
				service.awaitLeft(t)
				if got.what != "deadline_exceeded" || service.seen() != "1/1" || len(mom.got()) != 0 || got.decision != "direct;try=1;deadline → failed" {
					t.Errorf("caller read %q, service saw %s, MOM got %v, decision %s", got.what, service.seen(), mom.got(), got.decision)
				}
			})
		}
	}
	t.Run("before a Retry-After", func(t *testing.T) {
		t.Parallel()
		service := newFaulty(t, exhausted1)
		got := connect1.call(t, client(t, 1), frontMOM(t, "http://"+service.addr), get, connect1.deadline(300*time.Millisecond))
		if got.what != "resource_exhausted" || service.seen() != "1/1" {
			t.Errorf("caller read %q, service saw %s; want the service's resource_exhausted at once", got.what, service.seen())
		}
	})
}

// A caller who leaves ends the call at its service, and nothing is stored.
func TestLeft(t *testing.T) {
	t.Parallel()
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			ctx, leave := context.WithCancel(t.Context())
			service := newFaulty(t, fault{act: func(x *exchange) { x.hang(); leave() }})
			mom := newStandIn(t, nil)
			url := frontMOM(t, "http://"+service.addr, mom.addr)
			res, err := client(t, p.major).Do(p.request(t, url, get).WithContext(ctx))
			if err == nil {
				_ = res.Body.Close()
				t.Error("got an answer nobody gave")
			}
			service.awaitLeft(t)
			if service.seen() != "1/1" || len(mom.got()) != 0 {
				t.Errorf("service saw %s, MOM got %v; want one try and nothing stored", service.seen(), mom.got())
			}
		})
	}
}

// Retries are a share of the calls, whatever fails.
func TestBudget(t *testing.T) {
	t.Parallel()
	service := newFaulty(t, exhausted0)
	url, client := frontMOM(t, "http://"+service.addr), client(t, 1)
	started := time.Now()
	const calls = 40
	for range calls {
		connect1.call(t, client, url, get)
	}
	most := calls + 3 + calls/5 + int(3*time.Since(started).Seconds()) + 1
	service.mu.Lock()
	defer service.mu.Unlock()
	if service.whole > most || service.whole <= calls {
		t.Errorf("service saw %d requests of %d calls, want some retries, and at most %d requests", service.whole, calls, most)
	}
}

// An open breaker hands calls off without a dial, and only health closes it.
func TestBreakerCloses(t *testing.T) {
	t.Parallel()
	service, mom := newFaulty(t, fault{times: 5, act: (*exchange).close}), newStandIn(t, nil)
	url, client := frontMOM(t, "http://"+service.addr, mom.addr), client(t, 1)
	for range 5 {
		connect1.call(t, client, url, add)
	}
	for range 20 { // the service would answer now
		if got := connect1.call(t, client, url, get); got.what != "held" || got.decision != "direct;try=0;breaker-open → stored;breaker=open" {
			t.Fatalf("caller read %q, decision %s; want it held without a try", got.what, got.decision)
		}
	}
	if got := mom.got()[0].cause; got != "breaker-open" || service.seen() != "5/5" {
		t.Errorf("MOM got the cause %q, service saw %s; want breaker-open and nothing new", got, service.seen())
	}
	service.healthy.Store(true)
	for deadline := time.Now().Add(10 * time.Second); ; {
		got := connect1.call(t, client, url, get)
		if got.what == "ok" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("caller read %q, decision %s; want a breaker that health closed", got.what, got.decision)
		}
	}
}

// Callers in a hurry say nothing of the service, however many they are.
func TestDeadlineSparesBreaker(t *testing.T) {
	t.Parallel()
	service := newFaulty(t, fault{act: (*exchange).hang})
	url, client := frontMOM(t, "http://"+service.addr), client(t, 2)
	for range 6 {
		got := connect2.call(t, client, url, get, connect2.deadline(80*time.Millisecond))
		if got.what != "deadline_exceeded" || got.decision != "direct;try=1;deadline → failed" {
			t.Errorf("caller read %q, decision %s; want deadline_exceeded and a closed breaker", got.what, got.decision)
		}
	}
}

// A service that fails just after the caller's deadline gets nothing stored: the
// caller has left, or is about to.
func TestNothingStoredAfterDeadline(t *testing.T) {
	t.Parallel()
	for _, fails := range []func(*exchange){(*exchange).close, bare502.act} {
		service := newFaulty(t, fault{act: func(x *exchange) {
			<-time.After(130 * time.Millisecond) // later than the deadline, earlier than the gateway's patience
			fails(x)
		}})
		mom := newStandIn(t, nil)
		url := frontMOM(t, "http://"+service.addr, mom.addr)
		for _, p := range []protocol{connect1, connect2} {
			if got := p.call(t, client(t, p.major), url, get, p.deadline(80*time.Millisecond)); got.what == "held" || strings.Contains(got.what, "STORE") || len(mom.got()) > 0 {
				t.Errorf("%s: caller read %q, MOM got %v; want no hand-off", p.name, got.what, mom.got())
			}
		}
	}
}
