package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpcreflect/v2"

	"holdline/gateway"
	"holdline/internal/freeport"
	"holdline/internal/route"
)

// The first calls of a gateway may come before it knows the schema of their service. They wait until it was asked for; and as long as it may
// still be told, none that would be a task passes, or is told for good what only holds without a schema.
func TestCallsBeforeTheSchema(t *testing.T) {
	t.Parallel()
	known := faultSchemas(t)
	snapshot, err := known.Snapshot(faultService)
	if err != nil {
		t.Fatal(err)
	}
	reflection := http.NewServeMux()
	rpc := connect.NewServer()
	grpcreflect.Register(rpc, grpcreflect.WithDescriptorResolver(known), grpcreflect.WithExtensionResolver(known),
		grpcreflect.WithNamer(grpcreflect.NamerFunc(func() []string { return []string{faultService} })))
	connecthttp.Mount(reflection, rpc)

	away := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	overHTTP1 := http.NewServeMux() // nobody asks there
	keyed, inJSON := []string{"Idempotency-Key: k"}, []string(nil)
	for name, test := range map[string]struct {
		reflects http.Handler // nil: the service is down
		schema   []byte       // the MOM's
		headers  []string
		status   int
		reason   string
		ran      int32
		offers   int
	}{
		"the service tells it":          {reflection, nil, keyed, 200, "", 0, 1},
		"the MOM tells it":              {nil, snapshot, keyed, 200, "", 0, 1},
		"there is none":                 {http.NotFoundHandler(), nil, keyed, 415, "PROTOCOL_UNSUPPORTED", 1, 0},
		"it speaks HTTP/1.1":            {overHTTP1, nil, keyed, 415, "PROTOCOL_UNSUPPORTED", 1, 0},
		"it may come":                   {away, nil, keyed, 503, "SERVICE_UNAVAILABLE", 0, 0},
		"it may come, async":            {away, nil, []string{"Prefer: respond-async"}, 503, "SERVICE_UNAVAILABLE", 0, 0},
		"it may come, direct":           {away, nil, append(keyed, "Holdline-Mode: direct"), 503, "SERVICE_UNAVAILABLE", 1, 0},
		"it may come, to be translated": {away, nil, inJSON, 503, "SERVICE_UNAVAILABLE", 1, 0},
		"nobody is there":               {nil, nil, inJSON, 503, "SERVICE_UNAVAILABLE", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ran atomic.Int32
			addr := freeport.Addr(t)
			if test.reflects != nil {
				service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					switch {
					case strings.HasPrefix(r.URL.Path, "/grpc.reflection."):
						test.reflects.ServeHTTP(w, r)
					case strings.HasPrefix(r.URL.Path, "/grpc.health."):
						http.NotFound(w, r)
					case r.Method == "PRI": // net/http over HTTP/1.1 takes what begins HTTP/2 for a request
						w.WriteHeader(http.StatusHTTPVersionNotSupported)
					default: // it speaks gRPC alone
						ran.Add(1)
						w.WriteHeader(http.StatusUnsupportedMediaType)
					}
				})
				if addr = serve(t, service); test.reflects == overHTTP1 {
					server := httptest.NewServer(service)
					t.Cleanup(server.Close)
					addr = server.Listener.Addr().String()
				}
			}
			mom := newStandIn(t, nil)
			mom.schema = test.schema
			unaware, err := route.LoadSchemas()
			if err != nil {
				t.Fatal(err)
			}
			url := "http://" + serve(t, configured(t, gateway.Config{Schemas: unaware}, "http://"+addr, mom.addr))
			res, err := client(t, 1).Do(request(t, url+add.path, strings.NewReader("{}"), append(test.headers, "Content-Type: application/json")...))
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if res.StatusCode != test.status || !strings.Contains(string(body), test.reason) {
				t.Errorf("status %d and %s, want %d and %s", res.StatusCode, body, test.status, test.reason)
			}
			if got := ran.Load(); got != test.ran {
				t.Errorf("the service saw %d calls, want %d", got, test.ran)
			}
			if got := len(mom.got()); got != test.offers {
				t.Errorf("the MOM was offered %d calls, want %d", got, test.offers)
			}
			if later := res.Header.Get("Retry-After"); (later != "") != (test.status == 503) {
				t.Errorf("Retry-After is %q", later)
			}
		})
	}
}

// Calls do not wait for ever for the schema of a service that is alive and never tells it: then it counts as one that has none.
func TestSchemaThatNeverComes(t *testing.T) {
	t.Parallel()
	var ran atomic.Int32
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/grpc.reflection."):
			w.WriteHeader(http.StatusServiceUnavailable)
		case strings.HasPrefix(r.URL.Path, "/grpc.health."):
			http.NotFound(w, r)
		default:
			ran.Add(1)
			_, _ = w.Write([]byte("{}"))
		}
	}))
	unaware, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + serve(t, configured(t, gateway.Config{Schemas: unaware}, "http://"+addr, newStandIn(t, nil).addr))
	call := func() int {
		res, err := client(t, 1).Do(request(t, url+add.path, strings.NewReader("{}"), "Content-Type: application/json", "Idempotency-Key: k"))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	if status := call(); status != http.StatusServiceUnavailable || ran.Load() != 0 {
		t.Fatalf("at first: status %d, and the service saw %d calls; want 503, and none", status, ran.Load())
	}
	for status := 0; status != http.StatusOK; status = call() {
		if status != 0 && status != http.StatusServiceUnavailable {
			t.Fatalf("then: status %d", status)
		}
		time.Sleep(time.Second)
	}
	if ran.Load() != 1 {
		t.Errorf("the service saw %d calls, want 1", ran.Load())
	}
}
