package gateway_test

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect/v2"
)

// What the end of a cell's first call is, in the words of Holdline-Decision.
const (
	passed = "passed"
	stored = "stored"
	failed = "failed"
)

// What the breaker makes of five such calls.
const (
	opens  = "opens"
	spared = "stays closed"
	either = "" // the table does not say
)

// What callers read when Holdline answers them.
const (
	again   = "unavailable SERVICE_UNAVAILABLE retry"
	unclear = "unknown OUTCOME_UNKNOWN"
	unsure  = "unavailable STORE_UNCERTAIN retry"
	handled = "deadline_exceeded CALL_STORED"
)

// cell is one of the table "which failure goes where", tried over some protocols.
type cell struct {
	fault  fault
	method method
	over   []protocol
	caller string // what the caller reads
	seen   string // requests at the service: begun/whole
	tries  int    // as the decision counts them
	cause  string // a pattern: systems word some of them differently
	end    string // stored: the MOM gets the call, under one id, with the cause
	breaks string
}

const cut = "closed|reset" // which one is a race of the kernel's

var table = []cell{
	// F1: not sent
	{dialRefused, get, all, "held", "0/0", 1, "dial-refused", stored, opens},
	{dialRefused, put, all, "held", "0/0", 1, "dial-refused", stored, opens},
	{dialRefused, add, all, "held", "0/0", 1, "dial-refused", stored, opens},
	{droppedSYN, get, h1, "held", "0/0", 1, "dial-timeout", stored, either},
	{droppedSYN, add, h2, "held", "0/0", 1, "dial-timeout", stored, either},
	{noName, get, all, "held", "0/0", 1, "dns", stored, opens},
	{noName, add, all, "held", "0/0", 1, "dns", stored, opens},
	{noTLS, get, all, "held", "0/0", 1, "tls", stored, opens},
	{noTLS, add, all, "held", "0/0", 1, "tls", stored, opens},
	{resetAtOnce, get, all, "held", "0/0", 0, cut + "|dial|connection", stored, opens}, // 1 try or 3: the kernel may take the request before the reset comes

	// F2: refused by a service that is alive
	{refusedStream, get, h2, "held", "2/0", 1, "refused-stream", stored, spared},
	{refusedStream, add, h2, "held", "2/0", 1, "refused-stream", stored, spared},
	{refusedOnce, get, h2, "ok", "2/1", 1, "", passed, spared},
	{refusedOnce, add, h2, "ok", "2/1", 1, "", passed, spared},
	{refusedTwice, add, h2, "held", "2/0", 1, "refused-stream", stored, spared},
	{goAwayBelow, get, h2, "held", "2/0", 1, "refused-stream", stored, spared},
	{goAwayBelow, add, h2, "held", "2/0", 1, "refused-stream", stored, spared},
	{goAwayOnce, get, h2, "ok", "2/1", 1, "", passed, spared},
	{goAwayOnce, add, h2, "ok", "2/1", 1, "", passed, spared},

	// F3: broken after the request, F5: per-try timeout
	{closedAfter, get, all, "held", "3/3", 3, cut, stored, opens},
	{closedAfter, put, all, "held", "3/3", 3, cut, stored, opens},
	{closedAfter, add, all, unclear, "1/1", 1, cut, failed, opens},
	{closedOnce, get, all, "ok", "2/2", 2, "", passed, spared},
	{closedTwice, get, all, "ok", "3/3", 3, "", passed, spared},
	{resetAfter, get, all, "held", "3/3", 3, cut, stored, opens},
	{resetAfter, add, all, unclear, "1/1", 1, cut, failed, opens},
	{rstInternal, get, h2, "held", "3/3", 3, "reset-stream", stored, opens},
	{rstInternal, add, h2, unclear, "1/1", 1, "reset-stream", failed, opens},
	{rstCancel, get, h2, "held", "3/3", 3, "reset-stream", stored, opens},
	{rstCancel, add, h2, unclear, "1/1", 1, "reset-stream", failed, opens},
	{goAwayOther, get, h2, "held", "3/3", 3, cut + "|connection", stored, opens},
	{goAwayOther, add, h2, unclear, "1/1", 1, cut + "|connection", failed, opens},
	{tryTimeout, get, all, "held", "3/3", 3, "try-timeout", stored, opens},
	{tryTimeout, add, all, unclear, "1/1", 1, "try-timeout", failed, opens},
	{tryTimeoutOne, get, all, "ok", "2/2", 2, "", passed, spared},

	// F3: broken after the headers, of which nobody has seen anything
	{cutHead, get, all, "held", "3/3", 3, cut + "|broken-answer", stored, opens},
	{cutHead, add, all, unclear, "1/1", 1, cut + "|broken-answer", failed, opens},

	// F4: broken after the first byte
	{cutByte, get, all, "broken", "1/1", 1, "", passed, opens},
	{cutByte, add, all, "broken", "1/1", 1, "", passed, opens},
	{cutBody, get, all, "broken", "1/1", 1, "", passed, opens},
	{cutBody, add, all, "broken", "1/1", 1, "", passed, opens},
	{rstByte, get, h2, "broken", "1/1", 1, "", passed, opens},
	{rstByte, add, h2, "broken", "1/1", 1, "", passed, opens},

	// I1: a bare gateway error
	{bare502, get, all, "held", "3/3", 3, "http-502", stored, opens},
	{bare502, add, all, unclear, "1/1", 1, "http-502", failed, opens},
	{once502, get, all, "ok", "2/2", 2, "", passed, spared},
	{bare503, get, all, "held", "3/3", 3, "http-503", stored, opens},
	{bare503, add, all, unclear, "1/1", 1, "http-503", failed, opens},
	{code503, get, all, "held", "3/3", 3, "http-503", stored, opens},
	{code503, add, all, unclear, "1/1", 1, "http-503", failed, opens},
	{bare504, get, all, "held", "3/3", 3, "http-504", stored, opens},
	{bare504, add, all, unclear, "1/1", 1, "http-504", failed, opens},

	// A1: the service says unavailable
	{unavailable, get, all, "held", "3/3", 3, "unavailable", stored, opens},
	{unavailable, put, all, "held", "3/3", 3, "unavailable", stored, opens},
	{unavailable, add, all, "unavailable", "1/1", 1, "unavailable", passed, opens},
	{unavailOnce, get, all, "ok", "2/2", 2, "", passed, spared},
	{inTrailers, get, onG, "held", "3/3", 3, "unavailable", stored, opens},
	{inTrailers, add, onG, "unavailable", "1/1", 1, "unavailable", passed, opens},
	{inFrame, get, onW, "held", "3/3", 3, "unavailable", stored, opens},
	{inFrame, add, onW, "unavailable", "1/1", 1, "unavailable", passed, opens},
	{inFrames, get, onW, "held", "3/3", 3, "unavailable", stored, opens},
	{inFrames, add, onW, "unavailable", "1/1", 1, "unavailable", passed, opens},
	{inText, get, onW, "held", "3/3", 3, "unavailable", stored, opens},
	{gzipped, get, onC, "held", "3/3", 3, "unavailable", stored, opens},
	{gzipped, add, onC, "HTTP 503", "1/1", 1, "unavailable", passed, opens}, // this caller reads no gzip
	{afterMessage, get, onG, "unavailable", "1/1", 1, "", passed, spared},

	// A3: the service is exhausted
	{exhausted, get, all, "resource_exhausted", "1/1", 1, "resource-exhausted", passed, spared},
	{exhausted, add, all, "resource_exhausted", "1/1", 1, "resource-exhausted", passed, spared},
	{exhausted0, get, all, "resource_exhausted", "2/2", 2, "resource-exhausted", passed, spared},
	{exhausted0, add, all, "resource_exhausted", "1/1", 1, "resource-exhausted", passed, spared},
	{exhausted1, get, all, "ok", "2/2", 2, "", passed, spared},
	{exhausted1, add, all, "resource_exhausted", "1/1", 1, "resource-exhausted", passed, spared},
	{exhausted5, get, all, "resource_exhausted", "1/1", 1, "resource-exhausted", passed, spared},

	// A6: every other code. I2: other plain HTTP
	{fine, get, all, "ok", "1/1", 1, "", passed, spared},
	{fine, add, all, "ok", "1/1", 1, "", passed, spared},
	{slowBody, get, all, "ok", "1/1", 1, "", passed, spared},
	{says(connect.CodeCanceled), get, all, "canceled", "1/1", 1, "", passed, spared},
	{says(connect.CodeUnknown), get, all, "unknown", "1/1", 1, "", passed, spared},
	{says(connect.CodeAborted), get, all, "aborted", "1/1", 1, "", passed, spared},
	{says(connect.CodeInternal), add, all, "internal", "1/1", 1, "", passed, spared},
	{says(connect.CodeDeadlineExceeded), get, all, "deadline_exceeded", "1/1", 1, "", passed, spared},
	{says(connect.CodeDeadlineExceeded), add, all, "deadline_exceeded", "1/1", 1, "", passed, spared},
	{says(connect.CodeUnimplemented), get, all, "unimplemented", "1/1", 1, "", passed, spared},
	{says(connect.CodeInvalidArgument), add, all, "invalid_argument", "1/1", 1, "", passed, spared},
	{noStatus, get, onG, "HTTP 200", "1/1", 1, "", passed, spared},
	{http404, get, all, "HTTP 404", "1/1", 1, "", passed, spared},
	{http404, add, all, "HTTP 404", "1/1", 1, "", passed, spared},
	{http418, get, all, "HTTP 418", "1/1", 1, "", passed, spared},
	{http429, get, all, "HTTP 429", "1/1", 1, "", passed, spared},
	{http500, get, all, "HTTP 500", "1/1", 1, "", passed, spared},
	{http500, add, all, "HTTP 500", "1/1", 1, "", passed, spared},

	// L1: larger than what is kept. One try, and never stored
	{fine, bigGet, all, "ok", "1/1", 1, "", passed, spared},
	{dialRefused, bigGet, all, again, "0/0", 1, "dial-refused", failed, either},
	{dialRefused, bigAdd, all, again, "0/0", 1, "dial-refused", failed, either},
	{closedAfter, bigGet, all, again, "1/1", 1, cut, failed, either},
	{closedAfter, bigAdd, all, unclear, "1/1", 1, cut, failed, either},
	{refusedStream, bigGet, h2, again, "1/0", 1, "refused-stream", failed, spared},
	{refusedStream, bigAdd, h2, again, "1/0", 1, "refused-stream", failed, spared},
	{bare502, bigGet, all, again, "1/1", 1, "http-502", failed, either},
	{bare502, bigAdd, all, unclear, "1/1", 1, "http-502", failed, either},
	{unavailable, bigGet, all, "unavailable", "1/1", 1, "unavailable", passed, either},
	{exhausted0, bigGet, all, "resource_exhausted", "1/1", 1, "resource-exhausted", passed, spared},

	// L2: streams and methods without a schema. Never stored
	{fine, watch, all, "ok", "1/1", 1, "", passed, spared},
	{fine, schemaless, all, "ok", "1/1", 1, "", passed, spared},
	{dialRefused, watch, all, again, "0/0", 1, "dial-refused", failed, either},
	{dialRefused, schemaless, all, again, "0/0", 1, "dial-refused", failed, either},
	{refusedStream, watch, h2, again, "2/0", 1, "refused-stream", failed, spared},
	{refusedStream, schemaless, h2, again, "2/0", 1, "refused-stream", failed, spared},
	{refusedOnce, watch, h2, "ok", "2/1", 1, "", passed, spared},
	{refusedOnce, schemaless, h2, "ok", "2/1", 1, "", passed, spared},
	{refusedTwice, watch, h2, again, "2/0", 1, "refused-stream", failed, spared},
	{goAwayBelow, watch, h2, again, "2/0", 1, "refused-stream", failed, spared},
	{goAwayOnce, watch, h2, "ok", "2/1", 1, "", passed, spared},
	{closedAfter, watch, all, unclear, "1/1", 1, cut, failed, either},
	{closedAfter, schemaless, all, unclear, "1/1", 1, cut, failed, either},
	{unavailable, watch, all, "unavailable", "1/1", 1, "", passed, either},
	{unavailable, schemaless, all, "unavailable", "1/1", 1, "", passed, either},
	{bare502, watch, all, "HTTP 502", "1/1", 1, "", passed, either},
	{cutByte, watch, all, "broken", "1/1", 1, "", passed, either},
}

func TestTable(t *testing.T) {
	t.Parallel()
	for _, c := range table {
		for _, p := range c.over {
			t.Run(strings.ReplaceAll(c.method.name+"/"+c.fault.name+"/"+p.name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				c.check(t, p)
			})
		}
	}
}

// check makes the calls of a cell, against a service and a MOM of its own.
func (c cell) check(t *testing.T, p protocol) {
	service, mom := newFaulty(t, c.fault), newStandIn(t, nil)
	endpoint := "http://" + service.addr
	if c.fault.endpoint != nil {
		endpoint = c.fault.endpoint(t)
	}
	url, client := frontMOM(t, endpoint+c.fault.options, mom.addr), client(t, p.major)
	got := p.call(t, client, url, c.method)
	offers := mom.got()

	if got.what != c.caller {
		t.Errorf("caller read %q, want %q", got.what, c.caller)
	}
	if after := got.header.Get("Retry-After"); (after != "") != strings.HasSuffix(c.caller, "retry") && !strings.HasPrefix(c.caller, "resource_exhausted") {
		t.Errorf("caller read Retry-After: %q with %q", after, got.what)
	}
	if seen := service.seen(); seen != c.seen && c.fault.accept == nil {
		t.Errorf("service saw %s requests begun/whole, want %s", seen, c.seen)
	}
	tries, cause := fmt.Sprint(c.tries), c.cause
	if c.tries == 0 {
		tries = "[1-3]"
	}
	if cause != "" {
		cause = ";(" + cause + ")"
	}
	want := fmt.Sprintf("^direct;try=%s%s → %s(;breaker=open)?$", tries, cause, c.end)
	if !regexp.MustCompile(want).MatchString(got.decision) && (c.caller != "broken" || got.decision != "") { // it may break before its head is out
		t.Errorf("Holdline-Decision: %s, want %s", got.decision, want)
	}
	switch {
	case c.end != stored && len(offers) > 0:
		t.Errorf("MOM got %v, want nothing", offers)
	case c.end == stored && (len(ids(offers)) != 1 || !regexp.MustCompile("^("+c.cause+")$").MatchString(offers[0].cause)):
		t.Errorf("MOM got %+v, want one call, under one id, because of %s", offers, c.cause)
	case c.end == stored && got.task != offers[0].id:
		t.Errorf("caller read the task %q, want %q", got.task, offers[0].id)
	}
	if c.breaks == either {
		return
	}
	for range 4 {
		p.call(t, client, url, c.method)
	}
	if got := p.call(t, client, url, c.method); strings.HasSuffix(got.decision, ";breaker=open") != (c.breaks == opens) {
		t.Errorf("after five calls: %s, want a breaker that %s", got.decision, c.breaks)
	}
}

// Where there is another endpoint, a call that was not sent goes there.
func TestOtherEndpoint(t *testing.T) {
	t.Parallel()
	for _, f := range []fault{dialRefused, refusedStream, goAwayBelow} {
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			endpoint := "http://" + newFaulty(t, f).addr
			if f.endpoint != nil {
				endpoint = f.endpoint(t)
			}
			endpoints := endpoint + ",http://" + newFaulty(t, fine).addr
			for _, m := range []method{add, watch, schemaless} {
				for range 8 { // any of the two may be tried first, and one that has failed is not tried again soon
					url := frontMOM(t, endpoints)
					if got := grpc.call(t, client(t, 2), url, m); got.what != "ok" {
						t.Errorf("%s: caller read %q, decision %s; want ok", m.name, got.what, got.decision)
					}
				}
			}
		})
	}
}

// All calls that are under way when an endpoint has gone find the other one, however many there are.
func TestManyFindTheOtherEndpoint(t *testing.T) {
	t.Parallel()
	url := frontMOM(t, dialRefused.endpoint(t)+",http://"+newFaulty(t, fine).addr)
	caller := client(t, 2)
	var calls sync.WaitGroup
	for range 200 {
		calls.Go(func() {
			if got := grpc.call(t, caller, url, get); got.what != "ok" {
				t.Errorf("caller read %q, decision %s; want ok", got.what, got.decision)
			}
		})
	}
	calls.Wait()
}

// Two endpoints that refuse a call do not keep it from a third.
func TestThirdEndpoint(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	twoRefuse := fault{early: true, act: func(x *exchange) {
		if asked.Add(1) <= 2 {
			refusedStream.act(x)
		} else {
			x.ok()
		}
	}}
	one, two, three := newFaulty(t, twoRefuse), newFaulty(t, twoRefuse), newFaulty(t, twoRefuse)
	got := grpc.call(t, client(t, 2), frontMOM(t, "http://"+one.addr+",http://"+two.addr+",http://"+three.addr), add)
	if got.what != "ok" || got.decision != "direct;try=2 → passed" {
		t.Errorf("caller read %q, decision %s; want ok, with a free retry and one more", got.what, got.decision)
	}
}
