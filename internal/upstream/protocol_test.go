package upstream

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// An error of gRPC is the word of a server that does not know the caller's protocol, unless it may
// have run the call.
func TestErrorsOfGRPCServers(t *testing.T) {
	t.Parallel()
	say := func(w http.ResponseWriter, status, message string) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", status)
		w.Header().Set("Grpc-Message", message)
	}
	// As servers of gRPC's C core do, and as some do that look at no media type.
	demanding := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Te") == "" {
			say(w, "2", "Missing :te header")
			return
		}
		say(w, "12", "")
	}
	// What is behind it is down, for calls and for its health.
	failingAll := func(w http.ResponseWriter, _ *http.Request) { say(w, "13", "no database") }
	careless := func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") {
			say(w, "12", "")
			return
		}
		say(w, "9", "no money")
	}
	// As grpc-go does, which reads JSON as the binary format.
	misread := func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "{") {
			say(w, "13", "cannot parse")
			return
		}
		say(w, "12", "")
	}
	failing := func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") {
			say(w, "12", "")
			return
		}
		say(w, "13", "cannot parse")
	}
	noHealth := func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		say(w, "13", "no database")
	}
	noSuchType := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnsupportedMediaType) }
	busy := func(w http.ResponseWriter, _ *http.Request) { say(w, "14", "") }
	for _, c := range []struct {
		name, contentType string
		server            http.HandlerFunc
		want              Outcome
	}{
		{"Connect in JSON", "application/json", demanding, Outcome{Unsendable, UnknownProtocol}},
		{"Connect in proto", "application/proto", careless, Outcome{Unsendable, UnknownProtocol}},
		{"Connect, shed", "application/json", busy, Outcome{Unavailable, "unavailable"}},
		{"gRPC-Web", "application/grpc-web+proto", demanding, Outcome{Unsendable, UnknownProtocol}},
		{"gRPC-Web in base64", "application/grpc-web-text", demanding, Outcome{Unsendable, UnknownProtocol}},
		{"gRPC-Web, which may have run", "application/grpc-web", careless, Outcome{}},
		{"gRPC-Web, at a server that fails all", "application/grpc-web", failingAll, Outcome{}},
		{"gRPC in JSON, at a server that fails all", "application/grpc+json", failingAll, Outcome{Unsendable, UnknownProtocol}},
		{"gRPC", "application/grpc", demanding, Outcome{}},
		{"gRPC in JSON", "application/grpc+json", misread, Outcome{Unsendable, UnknownProtocol}},
		{"gRPC in JSON, at a server without health", "application/grpc+json", failing, Outcome{Unsendable, UnknownProtocol}},
		{"gRPC in JSON, at a server of Connect", "application/grpc+json", noHealth, Outcome{}},
		{"something else", "text/plain", demanding, Outcome{Unsendable, UnknownProtocol}},
		{"something else, which may have run", "text/plain", careless, Outcome{}},
		{"a codec of nobody's", "application/grpc+foo", noSuchType, Outcome{}},
		{"a codec that it lacks", "application/grpc+json", noSuchType, Outcome{Unsendable, UnknownProtocol}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := openPool(t, nil, "http://"+serveIn(t, c.server, false, true))
			req := &Request{Method: http.MethodPost, URL: &url.URL{Path: "/" + service + "/Call"}, HTTPMajor: 1, Header: http.Header{"Content-Type": {c.contentType}}, Look: true, Body: []byte("\x00\x00\x00\x00\x02{}"), Length: 7}
			res, outcome, err := p.Pick(nil).Try(t.Context(), req)
			if err != nil && !outcome.Foreign() {
				t.Fatal(err)
			}
			if res != nil {
				_, _ = io.Copy(io.Discard, res)
			}
			res.Drop()
			if outcome != c.want {
				t.Errorf("got %v, want %v", outcome, c.want)
			}
			_, known := newLacks()[c.contentType]
			if _, refused := p.Refuses(req); refused != (known && c.want.Cause == UnknownProtocol) {
				t.Errorf("the next one is refused: %v", refused)
			}
			req.Header.Set("Content-Type", "application/grpc")
			if _, refused := p.Refuses(req); refused {
				t.Error("calls of another type are refused too")
			}
		})
	}
}

// Whoever tries his luck with a request of his own does not close the queue for others.
func TestOddRequestsTellNothing(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnsupportedMediaType) }))
	t.Cleanup(server.Close)
	p := openPool(t, nil, server.URL)
	for _, odd := range []struct {
		method, path, contentType, encoding string
	}{
		{http.MethodGet, "/", "", ""},
		{http.MethodGet, "/?encoding=xml", "", ""},
		{http.MethodGet, "/?encoding=json&message=?", "", ""},
		{http.MethodGet, "/", "application/json", ""},
		{http.MethodPost, "/", "application/json; charset=latin1", ""},
		{http.MethodPost, "/", "application/json", "br"},
		{http.MethodPost, "/", "application/jsonx", ""},
		{http.MethodPost, "/", "", ""},
		{http.MethodPost, "/", "application/json", "-"},
	} {
		in := httptest.NewRequestWithContext(t.Context(), odd.method, odd.path, nil)
		in.Header = http.Header{"Content-Type": {odd.contentType}, "Content-Encoding": {odd.encoding}}
		req := Received(in)
		req.Look = true
		res, _, err := p.Pick(nil).Try(t.Context(), &req)
		if err != nil {
			t.Fatal(err)
		}
		res.Drop()
		if cause, refused := p.Refuses(&Request{Method: http.MethodPost, Header: http.Header{"Content-Type": {"application/json"}}}); refused {
			t.Errorf("after %+v others are refused: %s", odd, cause)
		}
	}
}

// A route may say which protocol its service speaks: then no other is tried.
func TestOnlyProtocol(t *testing.T) {
	t.Parallel()
	p := NewPool(Config{Service: service, Endpoints: []*url.URL{{Scheme: "http", Host: "127.0.0.1:1"}}, Protocol: OnlyGRPC, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(p.Close)
	for mediaType, want := range map[string]bool{
		"application/json": true, "application/proto": true, "application/grpc-web+proto": true, "application/grpc": false, "application/grpc+json": false,
	} {
		if _, lacks := p.Lacks(mediaType); lacks != want {
			t.Errorf("%s: lacks is %v", mediaType, lacks)
		}
	}
}
