package gateway_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	stock "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"holdline/internal/freeport"
	"holdline/internal/server/servertest"
)

// plainGRPC is a service of grpc-go without health. It answers each call with a code.
func plainGRPC(tb testing.TB, addr string, code codes.Code) (ran func() int) {
	tb.Helper()
	var mu sync.Mutex
	runs := 0
	handle := func(_ any, _ context.Context, decode func(any) error, _ stock.UnaryServerInterceptor) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		runs++
		message := new(emptypb.Empty)
		if err := decode(message); err != nil || code != codes.OK {
			return nil, status.Error(code, "as told")
		}
		return message, nil
	}
	servertest.GRPC(tb, addr, &stock.ServiceDesc{ServiceName: faultService, Methods: []stock.MethodDesc{
		{MethodName: "Get", Handler: handle}, {MethodName: "Add", Handler: handle},
	}}, nil)
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return runs
	}
}

// Callers of Connect and gRPC-Web reach a service that only speaks gRPC, each by one try; what its route
// says of it is not tried at all. What cannot be translated is refused.
func TestBridgeToGRPC(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"", ";protocol=grpc"} {
		addr := freeport.Addr(t)
		ran := plainGRPC(t, addr, codes.OK)
		url := "http://" + serve(t, newGateway(t, "http://"+addr+option))
		want := 0
		for _, p := range []protocol{connect1, connect2, web} {
			for _, m := range []method{get, add} {
				want++
				if got := p.call(t, client(t, p.major), url, m); got.what != "ok" || got.decision != "direct;try=1;bridge=grpc → passed" {
					t.Errorf("%s %s%s: got %+v", p.name, m.name, option, got)
				}
			}
			for _, m := range []method{bigGet, watch} {
				if got := p.call(t, client(t, p.major), url, m); got.what == "ok" {
					t.Errorf("%s %s%s: got %+v, want it refused", p.name, m.name, option, got)
				}
			}
		}
		if got := grpc.call(t, client(t, 2), url, add); got.what != "ok" || strings.Contains(got.decision, "bridge") {
			t.Errorf("gRPC%s: got %+v, want no bridge", option, got)
		}
		if got := ran(); got != want+1 {
			t.Errorf("%d calls ran%s, want %d", got, option, want+1)
		}
	}
}

// What follows from a service's word is the same across the bridge: unavailable is tried again where that is
// safe, and every other error passes.
func TestBridgeDecides(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code codes.Code
		m    method
		want string
		runs int
	}{
		{codes.NotFound, get, "not_found", 1},
		{codes.Unavailable, add, "unavailable", 1},
		{codes.Unavailable, get, "unavailable", 3},
	} {
		addr := freeport.Addr(t)
		ran := plainGRPC(t, addr, c.code)
		url := "http://" + serve(t, newGateway(t, "http://"+addr))
		if got := connect1.call(t, client(t, 1), url, c.m); got.what != c.want || ran() != c.runs {
			t.Errorf("%v of %s: got %+v after %d runs, want %s after %d", c.code, c.m.name, got, ran(), c.want, c.runs)
		}
	}
}

// A message that is none of the method is refused as the caller's mistake, and is not sent.
func TestBridgeRefuses(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	ran := plainGRPC(t, addr, codes.OK)
	url := "http://" + serve(t, newGateway(t, "http://"+addr+";protocol=grpc"))
	res, body := fetch(t, request(t, url+add.path, strings.NewReader("[1]"), "Content-Type: application/json"))
	if res.StatusCode != http.StatusBadRequest || !strings.Contains(body, `"invalid_argument"`) || !strings.Contains(body, "cannot be read") || ran() != 0 {
		t.Errorf("got %d %s after %d runs, want it refused", res.StatusCode, body, ran())
	}
}

// What a service does not take may be how a call is written, and not its protocol: compressed, or with a parameter of its type. Then it gets
// the same call without that.
func TestBridgeWritesPlainly(t *testing.T) {
	t.Parallel()
	url := "http://" + serve(t, newGateway(t, "http://"+serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.Header.Get("Content-Encoding") != "" || r.Header.Get("Content-Type") != "application/json" || string(body) != "{}" {
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	}))))
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, _ = zip.Write([]byte("{}"))
	_ = zip.Close()
	for name, req := range map[string]*http.Request{
		"compressed":  request(t, url+add.path, &packed, "Content-Type: application/json", "Content-Encoding: gzip"),
		"a parameter": request(t, url+add.path, strings.NewReader("{}"), "Content-Type: application/json; v=1"),
		"a GET":       as(http.MethodGet, request(t, url+get.path+"?encoding=json&message=%7B%7D", http.NoBody)),
	} {
		res, body := fetch(t, req)
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d %s, want the answer", name, res.StatusCode, body)
		}
	}
}

// A caller of any type hears it if the service takes none.
func TestBridgeOfAllTypes(t *testing.T) {
	t.Parallel()
	url := "http://" + serve(t, newGateway(t, "http://"+serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnsupportedMediaType)
	}))))
	for _, kind := range []string{
		"application/json", "application/proto", "application/grpc-web", "application/grpc-web+proto", "application/grpc-web+json",
		"application/grpc-web-text", "application/grpc-web-text+proto", "application/grpc-web-text+json",
	} {
		for _, headers := range [][]string{{"Content-Type: " + kind}, {"Content-Type: " + kind + "; v=1"}, {"Content-Type: " + kind, "Grpc-Encoding: gzip"}, {"Content-Type: " + kind, "Content-Encoding: gzip"}} {
			res, body := fetch(t, request(t, url+add.path, strings.NewReader("AAAAAAA="), headers...))
			if res.StatusCode == http.StatusOK && res.Header.Get("Grpc-Status") == "" {
				t.Errorf("%v: got %d %s, want an error", headers, res.StatusCode, body)
			}
		}
	}
}

// One caller's odd type does not keep others from a service that takes only a type with a parameter.
func TestBridgeLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	const only = "application/json; charset=utf-8"
	url := "http://" + serve(t, newGateway(t, "http://"+serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") != only {
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		w.Header().Set("Content-Type", only)
		_, _ = io.WriteString(w, "{}")
	}))))
	for _, c := range []struct {
		contentType string
		status      int
	}{{only, http.StatusOK}, {"application/json; v=1", http.StatusUnsupportedMediaType}, {only, http.StatusOK}, {only, http.StatusOK}} {
		res, _ := fetch(t, request(t, url+add.path, strings.NewReader("{}"), "Content-Type: "+c.contentType, "Prefer: wait=5")) // no plain call
		if res.StatusCode != c.status {
			t.Errorf("%s: got %s, want %d", c.contentType, res.Status, c.status)
		}
	}
}

// A call that is too large to be translated is told so.
func TestBridgeTellsOfSize(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	plainGRPC(t, addr, codes.OK)
	url := "http://" + serve(t, newGateway(t, "http://"+addr))
	connect1.call(t, client(t, 1), url, add) // so the gateway knows that the service speaks HTTP/2
	res, body := fetch(t, request(t, url+add.path, strings.NewReader(strings.Repeat(" ", 1<<20)+"{}"), "Content-Type: application/json"))
	if res.StatusCode != http.StatusUnsupportedMediaType || !strings.Contains(body, "a message of more than 1048576 bytes is not translated") {
		t.Errorf("got %d %s, want to hear of its size", res.StatusCode, body)
	}
}

// Who does not keep to his own protocol hears what is wrong with the call, and not that the service did not understand it.
func TestBridgeTellsOfMalformed(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	ran := plainGRPC(t, addr, codes.OK)
	url := "http://" + serve(t, newGateway(t, "http://"+addr+";protocol=grpc"))
	for want, req := range map[string]*http.Request{
		"405 ":                     as(http.MethodPut, request(t, url+get.path, strings.NewReader("{}"), "Content-Type: application/json")),
		`unknown compression "lz"`: request(t, url+add.path, strings.NewReader("{}"), "Content-Type: application/json", "Content-Encoding: lz"),
	} {
		res, body := fetch(t, req)
		if said := res.Status + " " + strings.ReplaceAll(body, `\"`, `"`); !strings.Contains(said, want) || strings.Contains(said, "PROTOCOL_UNSUPPORTED") {
			t.Errorf("got %s, want %s", said, want)
		}
	}
	if got := ran(); got != 0 {
		t.Errorf("%d calls ran", got)
	}
}

// A caller of a method that no schema has hears why it was not translated, whatever a server of gRPC says to it.
func TestBridgeNeedsSchema(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	plainGRPC(t, addr, codes.OK)
	asPython := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "2")
	}))
	for _, service := range []string{addr, asPython} {
		url := "http://" + serve(t, newGateway(t, "http://"+service))
		res, body := fetch(t, request(t, url+"/"+faultService+"/Nobody", strings.NewReader("{}"), "Content-Type: application/json"))
		if res.StatusCode != http.StatusUnsupportedMediaType || !strings.Contains(body, "PROTOCOL_UNSUPPORTED") || !strings.Contains(body, "no schema has the method") {
			t.Errorf("got %d %s", res.StatusCode, body)
		}
	}
}

// gRPC reaches a service that has HTTP/1.1 and one other protocol alone.
func TestBridgeFromGRPC(t *testing.T) {
	t.Parallel()
	for kind, c := range map[string]struct{ protocol, answer string }{
		"application/proto":          {"connect", ""},
		"application/grpc-web+proto": {"grpcweb", envelope(0, "") + envelope(0x80, "grpc-status: 0\r\n")},
	} {
		var runs atomic.Int64
		service := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 1 || r.Header.Get("Content-Type") != kind {
				w.WriteHeader(http.StatusUnsupportedMediaType)
				return
			}
			runs.Add(1)
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, c.answer)
		}))
		url := "http://" + serve(t, newGateway(t, "http://"+service+";http=1"))
		for range 2 {
			if got := grpc.call(t, client(t, 2), url, add); got.what != "ok" || got.decision != "direct;try=1;bridge="+c.protocol+" → passed" {
				t.Errorf("%s: got %+v", kind, got)
			}
		}
		if got := runs.Load(); got != 2 {
			t.Errorf("%s: %d calls ran, want 2", kind, got)
		}
	}
}

// A call that can be translated is stored in an outage, although the service was seen not to understand it.
func TestBridgedCallsAreStored(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	mom := newStandIn(t, nil)
	url := frontMOM(t, "http://"+addr+";protocol=grpc", mom.addr)
	for _, headers := range [][]string{nil, {"Idempotency-Key: k"}, {"Prefer: respond-async, wait=5"}} {
		if got := connect1.call(t, client(t, 1), url, add, headers...); got.what != "held" {
			t.Errorf("with %v: got %+v, want it held", headers, got)
		}
	}
	if got := connect1.call(t, client(t, 1), url, bigAdd); !strings.HasPrefix(got.what, "unimplemented") && !strings.HasPrefix(got.what, "unavailable") {
		t.Errorf("a large call: got %+v, want it refused", got)
	}
}

// A service may be another one by now: what it did not understand before is tried last, and not given up.
func TestBridgeIsNotForEver(t *testing.T) {
	t.Parallel()
	var kind atomic.Value
	kind.Store("application/proto")
	service := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") != kind.Load() {
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		if r.Header.Get("Content-Type") == "application/json" {
			_, _ = io.WriteString(w, "{}")
		}
	}))
	url := "http://" + serve(t, newGateway(t, "http://"+service))
	for next, want := range map[string]string{"application/proto": "direct;try=1;bridge=connect → passed", "application/json": "direct;try=1 → passed"} {
		kind.Store(next)
		for range 2 {
			if got := connect1.call(t, client(t, 1), url, add); got.what != "ok" || got.decision != want {
				t.Errorf("while it takes %s: got %+v, want %s", next, got, want)
			}
		}
	}
	// What only the service knows of a message is not lost, although the service is known not to take JSON.
	for _, next := range []string{"application/proto", "application/json"} {
		kind.Store(next)
		res, err := client(t, 1).Do(request(t, url+add.path, strings.NewReader(`{"later": 1}`), "Content-Type: application/json", "Holdline-Explain: 1"))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if across := strings.Contains(res.Header.Get("Holdline-Decision"), "bridge"); res.StatusCode != http.StatusOK || across != (next == "application/proto") {
			t.Errorf("while it takes %s: got %d %v", next, res.StatusCode, res.Header)
		}
	}
}
