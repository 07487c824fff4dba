package mom

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/reflection"
	"holdline/internal/route"
	"holdline/internal/upstream"
	"holdline/internal/wire"
)

// newAttempter makes attempts at a service at a URL.
func newAttempter(t testing.TB, store *fakeStore, url string, options ...string) *attempter {
	t.Helper()
	routes, err := route.ParseTable([]string{strings.Join(append([]string{arithmeticv1connect.SumServiceName + "=" + url}, options...), ";")})
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	log, once := discard()
	shelf := newShelf(store, schemas, routes.Services, log)
	r := routes[arithmeticv1connect.SumServiceName]
	pool := upstream.NewPool(r.Pool(wire.Own, log))
	t.Cleanup(pool.Close)
	shard := Shard{Service: r.Service}
	return &attempter{
		store: store, shard: shard, sender: newSender(pool, shelf, r, &reflection.Learner{}), reaper: newReaper(store, shard, nil, log),
		metrics: newMetrics(prometheus.NewRegistry()), traffic: &traffic{}, outages: noOutages(), waiters: newWaiters(), log: log, once: once,
	}
}

// sumLease is a lease of a call of a method that may run twice, as a caller of Connect made it.
func sumLease() Lease {
	return Lease{
		ID:    contract.NewTaskID(arithmeticv1connect.SumServiceName, 1, contract.Anonymous, arithmeticv1connect.SumServiceSumProcedure, ""),
		Epoch: 1, Repeatable: true,
		Call: &momv1.Call{RecordVersion: 1, Procedure: arithmeticv1connect.SumServiceSumProcedure, Protocol: "connect", HttpMajor: 1},
	}
}

// says is a service that always says the same, with headers such as "Retry-After: 7".
func says(status int, contentType, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		for _, h := range headers {
			key, value, _ := strings.Cut(h, ": ")
			w.Header().Set(key, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// takesProto is a service that answers what it was asked, and understands no JSON. Its callers send something.
func takesProto(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Header.Get("Content-Type") != "application/proto" || len(body) == 0 {
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	}
	w.Header().Set("Content-Type", "application/proto")
	_, _ = w.Write(body)
}

// inJSON makes the call one in JSON.
func inJSON(message string) func(*Lease) {
	return func(l *Lease) {
		l.Call.Codec, l.Call.RecordVersion, l.Call.Message = codecJSON, jsonRecordVersion, []byte(message)
	}
}

// breaks is a service that reads a call and breaks its connection.
func breaks(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	panic(http.ErrAbortHandler)
}

// What an attempt came to is recorded as one transition: an answer settles the task, whatever it is; what the service
// cannot have seen costs no attempt; what it may have seen runs again only if it may run twice.
func TestAttempt(t *testing.T) {
	t.Parallel()
	const proto, json = "application/proto", "application/json"
	unavailable := `{"code":"unavailable"}`
	once := func(l *Lease) { l.Repeatable = false }
	for name, c := range map[string]struct {
		service http.HandlerFunc // nil: nobody listens
		route   string           // an option of the route
		change  func(*Lease)
		want    []string
		up      bool // the service was there
	}{
		"answered":                         {says(200, proto, "abc"), "", nil, []string{"settle 3 bytes"}, true},
		"answered with an error":           {says(400, json, `{"code":"invalid_argument"}`), "", nil, []string{"settle error 3"}, true},
		"answered too much":                {says(200, proto, strings.Repeat("a", bridge.MaxMessage+1)), "", nil, []string{"settle error 8"}, true},
		"not sent":                         {nil, "", nil, []string{"release"}, false},
		"not sent, may run once":           {nil, "", once, []string{"release"}, false},
		"broken":                           {breaks, "", nil, []string{"spend closed 100ms"}, false},
		"broken again":                     {breaks, "", func(l *Lease) { l.Attempts = 3 }, []string{"spend closed 800ms"}, false},
		"broken for the twelfth time":      {breaks, "", func(l *Lease) { l.Attempts = 11 }, []string{"spend closed 10s"}, false},
		"broken, may run once":             {breaks, "", once, []string{"park closed"}, false},
		"a proxy says 503":                 {says(503, "text/html", "<html>"), "", nil, []string{"spend http-503 100ms"}, false},
		"unavailable":                      {says(503, json, unavailable), "", nil, []string{"spend unavailable 100ms"}, true},
		"unavailable, may run once":        {says(503, json, unavailable), "", once, []string{"settle error 14"}, true},
		"unavailable, says until when":     {says(503, json, unavailable, "Retry-After: 7"), "", once, []string{"put back unavailable 7s all=true"}, true},
		"unavailable, refuses safely":      {says(503, json, unavailable), "refusals=safe", once, []string{"put back unavailable 1s all=true"}, true},
		"unavailable, but it has a key":    {says(503, json, unavailable), "", func(l *Lease) { l.Repeatable, l.Call.IdempotencyKey = false, "k" }, []string{"put back unavailable 1s all=true"}, true},
		"exhausted":                        {says(429, json, `{"code":"resource_exhausted"}`), "", once, []string{"put back resource-exhausted 1s all=true"}, true},
		"exhausted, with a RetryInfo":      {says(429, json, `{"code":"resource_exhausted","details":[{"type":"google.rpc.RetryInfo","value":"CgIIAw"}]}`), "", nil, []string{"put back resource-exhausted 3s all=true"}, true},
		"exhausted, with gRPC's pushback":  {says(429, json, `{"code":"resource_exhausted"}`, "Grpc-Retry-Pushback-Ms: 1500"), "", nil, []string{"put back resource-exhausted 1.5s all=true"}, true},
		"exhausted for ages":               {says(429, json, `{"code":"resource_exhausted"}`, "Retry-After: 99999999999999999999"), "", nil, []string{"put back resource-exhausted 5m0s all=true"}, true},
		"exhausted until yesterday":        {says(429, json, `{"code":"resource_exhausted"}`, "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"), "", nil, []string{"put back resource-exhausted 250ms all=true"}, true},
		"a proxy says 429":                 {says(429, "text/html", "<html>", "Retry-After: 3"), "", once, []string{"put back http-429 3s all=true"}, true},
		"its method is unknown":            {says(200, proto, ""), "", func(l *Lease) { l.Call.Procedure += "s" }, []string{"pass over " + unknownMethod.words + " 250ms"}, true},
		"its protocol is unknown":          {says(200, proto, ""), "", func(l *Lease) { l.Call.Protocol = "thrift" }, []string{"pass over " + unknownProtocol.words + " 250ms"}, true},
		"its record is of a newer release": {says(200, proto, ""), "", func(l *Lease) { l.Call.RecordVersion = 9 }, []string{"pass over " + unknownRecord.words + " 250ms"}, true},
		"in JSON, of which it takes none":  {takesProto, "", inJSON(`{"a": 1}`), []string{"settle 9 bytes"}, true},
		"in JSON, with more than we know":  {takesProto, "", inJSON(`{"a": 1, "later": 2}`), []string{"settle 9 bytes"}, true},
		"in JSON that we cannot translate": {takesProto, "", inJSON(`{"a": "many"}`), []string{"pass over " + notTranslated.words + " 1s"}, true},
		"understood by nobody":             {says(415, "text/plain", ""), "", nil, []string{"settle error 12"}, true},
		"its headers are no headers": {says(200, proto, ""), "", func(l *Lease) {
			l.Call.Header = []*momv1.Metadata{{Key: "Not A Name", Values: []string{"x"}}}
		}, []string{"pass over " + headerInvalid.words + " 0s"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, options := "http://127.0.0.1:1", []string{}
			if c.service != nil {
				service := httptest.NewServer(c.service)
				t.Cleanup(service.Close)
				url = service.URL
			}
			if c.route != "" {
				options = append(options, c.route)
			}
			store := newFakeStore()
			a := newAttempter(t, store, url, options...)
			lease := sumLease()
			if c.change != nil {
				c.change(&lease)
			}
			if !lease.Repeatable {
				c.want = slices.Insert(c.want, 0, "mark")
			}
			one := a.attempt(t.Context(), lease)
			if got := store.transitions(); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if one.up != c.up {
				t.Errorf("it is said that the service was there: got %v, want %v", one.up, c.up)
			}
			if n := a.traffic.attempts.Load(); n != 0 {
				t.Errorf("%d attempts under way afterwards, want none", n)
			}
		})
	}
}

// What cannot be recorded as it is ends in another way, as far as it is still ours.
func TestAttemptIsNotRecorded(t *testing.T) {
	t.Parallel()
	wrong := errors.New("wrong")
	fails := func(errs map[string]error) func(string) error {
		return func(method string) error { return errs[method] }
	}
	for name, c := range map[string]struct {
		fail func(method string) error
		body string
		want []string
		lost float64 // leases
	}{
		"not marked":             {fails(map[string]error{"mark": wrong}), "abc", []string{"release"}, 0},
		"cancelled meanwhile":    {fails(map[string]error{"mark": ErrFenced}), "abc", nil, 0},
		"the lease is lost":      {fails(map[string]error{"settle ": ErrFenced}), "abc", []string{"mark"}, 1},
		"nothing can be settled": {fails(map[string]error{"settle ": wrong, "settle error ": wrong}), "abc", []string{"mark", "park its answer cannot be kept"}, 0},
		"not this answer":        {fails(map[string]error{"settle ": wrong}), "abc", []string{"mark", "settle error 13"}, 0},
		"too large for the store": {func(method string) error { // which cuts the connection, and answers others
			if method == "settle " {
				return ErrUnavailable
			}
			return nil
		}, strings.Repeat("a", heavyAnswer), []string{"mark", "settle error 8"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := httptest.NewServer(says(200, "application/proto", c.body))
			t.Cleanup(service.Close)
			store := newFakeStore()
			store.fail = c.fail
			a, registry := newAttempter(t, store, service.URL), prometheus.NewRegistry()
			a.metrics = newMetrics(registry)
			lease := sumLease()
			lease.Repeatable = false // else there is no mark
			a.attempt(t.Context(), lease)
			if got := store.transitions(); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if got := sum(t, registry, "holdline_mom_leases_lost_total"); got != c.lost {
				t.Errorf("leases lost: got %v, want %v", got, c.lost)
			}
		})
	}
}

// Whoever waits for a task gets its answer from the attempt; if that is not recorded, it has to look for itself.
func TestAnswerIsTakenBack(t *testing.T) {
	t.Parallel()
	service := httptest.NewServer(says(200, "application/proto", "abc"))
	t.Cleanup(service.Close)
	for settled, want := range map[error]bool{nil: true, ErrFenced: false} {
		store := newFakeStore()
		store.fail = func(method string) error {
			if strings.HasPrefix(method, "settle") {
				return settled
			}
			return nil
		}
		a, lease := newAttempter(t, store, service.URL), sumLease()
		waiter := a.waiters.add(true)
		waiter.waitFor(lease.ID)
		a.attempt(t.Context(), lease)
		select {
		case <-waiter.changed:
		default:
			t.Errorf("settled with %v: it was not woken", settled)
		}
		if end := waiter.ended.Load(); (end != nil) != want {
			t.Errorf("settled with %v: got %v", settled, end)
		}
	}
}

// The service gets what the caller has sent, in the caller's way to speak, and the task's id as its key.
func TestAttemptSendsWhatTheCallerSent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		call        *momv1.Call
		contentType string
		body        string
	}{
		"connect, proto":  {&momv1.Call{Protocol: "connect", Message: []byte{8, 1}}, "application/proto", "\x08\x01"},
		"connect, JSON":   {&momv1.Call{Protocol: "connect", Codec: "json", Message: []byte(`{ "a" : 1 }`)}, "application/json", `{ "a" : 1 }`},
		"gRPC-Web, JSON":  {&momv1.Call{Protocol: "grpcweb", Codec: "json", Message: []byte(`{}`)}, "application/grpc-web+json", "\x00\x00\x00\x00\x02{}"},
		"gRPC-Web, proto": {&momv1.Call{Protocol: "grpcweb", Message: []byte{8, 1}}, "application/grpc-web+proto", "\x00\x00\x00\x00\x02\x08\x01"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			type request struct {
				header http.Header
				body   string
			}
			came := make(chan request, 1)
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				came <- request{r.Header, string(body)}
				breaks(w, r)
			}))
			t.Cleanup(service.Close)
			lease := sumLease()
			c.call.RecordVersion, c.call.Procedure, c.call.HttpMajor = cmp.Or(c.call.RecordVersion, 1), arithmeticv1connect.SumServiceSumProcedure, 1
			c.call.Header = []*momv1.Metadata{{Key: "X-Text", Values: []string{"a", "b"}}, {Key: "X-Latin", RawValues: [][]byte{{0xe9}}}}
			c.call.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
			lease.Call = c.call
			newAttempter(t, newFakeStore(), service.URL).attempt(context.Background(), lease)
			got := <-came
			if got.body != c.body {
				t.Errorf("body: got %q, want %q", got.body, c.body)
			}
			for key, want := range map[string][]string{
				"Content-Type": {c.contentType}, "Idempotency-Key": {lease.ID.String()}, "X-Text": {"a", "b"}, "X-Latin": {"\xe9"},
				"Traceparent": {c.call.GetTraceParent()},
			} {
				if !slices.Equal(got.header.Values(key), want) {
					t.Errorf("%s: got %q, want %q", key, got.header.Values(key), want)
				}
			}
		})
	}
}

// An attempt takes no longer than its route allows.
func TestAttemptTimeout(t *testing.T) {
	t.Parallel()
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(service.Close)
	store := newFakeStore()
	a := newAttempter(t, store, service.URL)
	a.sender.route().AttemptTimeout = 50 * time.Millisecond
	a.attempt(t.Context(), sumLease())
	if got, want := store.transitions(), []string{"spend try-timeout 100ms"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Headers of ours that make a call too large for its service are left out of a second try. A call that is too large
// without them is passed over.
func TestAttemptWithLargeHeaders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		least int // headers that the service takes no more
		want  []string
	}{
		"with ours":    {1, []string{"settle 0 bytes"}},
		"without ours": {0, []string{"pass over " + headersTooLarge.words + " 1s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var bare http.Header
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if len(r.Header.Values(contract.HeaderKey)) >= c.least {
					w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
					return
				}
				bare = r.Header
				w.Header().Set("Content-Type", "application/proto")
			}))
			t.Cleanup(service.Close)
			store := newFakeStore()
			lease := sumLease()
			lease.Call.Header = []*momv1.Metadata{{Key: "X-Large", Values: []string{strings.Repeat("x", upstream.LargeHeaders)}}}
			newAttempter(t, store, service.URL).attempt(t.Context(), lease)
			if got := store.transitions(); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if c.least > 0 && (len(bare.Get("X-Large")) != upstream.LargeHeaders || bare.Get("Content-Type") != "application/proto" || bare.Get("User-Agent") != "") {
				t.Errorf("the second try: got %v, want what the caller sent, and nothing of ours", bare)
			}
		})
	}
}

// settling is a store that takes every answer, and keeps none.
type settling struct{ *fakeStore }

func (settling) MarkSent(context.Context, Lease) error { return nil }

func (settling) Settle(context.Context, Lease, *momv1.Answer, bool) error { return nil }

// BenchmarkReplay sends tasks one after the other, and tells their callers. The store's part and the service's are not measured:
// the service is a connection that says the same to all it reads.
func BenchmarkReplay(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\n\r\n{\"sum\":3.5}")
				for room := make([]byte, 4<<10); err == nil; _, err = conn.Write(answer) {
					_, err = conn.Read(room)
				}
			}()
		}
	}()
	a := newAttempter(b, newFakeStore(), "http://"+listener.Addr().String())
	a.store = settling{}
	r := &replayer{shard: a.shard, attempt: a.attempt, workers: make(wire.Workers), flights: flights{all: map[*flight]struct{}{}}}
	lease := sumLease()
	lease.Call.Codec, lease.Call.Message, lease.Call.IdempotencyKey = codecJSON, []byte(`{"a":1,"b":2.5}`), "key"
	lease.Call.Header = []*momv1.Metadata{{Key: "User-Agent", Values: []string{"benchmark"}}}
	caller := a.waiters.add(true)
	caller.waitFor(lease.ID)
	done := make(chan report, 1)
	b.ReportAllocs()
	for b.Loop() {
		r.start(b.Context(), []Lease{lease}, done)
		r.learn(<-done)
		<-caller.changed
		if end := caller.ended.Swap(nil); string(end.answer.GetJson()) != `{"sum":3.5}` {
			b.Fatalf("got %v", end)
		}
	}
}
