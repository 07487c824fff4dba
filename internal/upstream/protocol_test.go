package upstream

import (
	"io"
	"log/slog"
	"net"
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
	demanding := func(w http.ResponseWriter, _ *http.Request) { say(w, "2", "Missing :te header") }
	careless := func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") {
			say(w, "12", "")
			return
		}
		say(w, "9", "no money")
	}
	busy := func(w http.ResponseWriter, _ *http.Request) { say(w, "14", "") }
	for _, c := range []struct {
		name, contentType string
		server            http.HandlerFunc
		want              Outcome
	}{
		{"Connect in JSON", "application/json", demanding, Outcome{Unsendable, UnknownProtocol}},
		{"Connect in proto", "application/proto; x=1", careless, Outcome{Unsendable, UnknownProtocol}},
		{"Connect, shed", "application/json", busy, Outcome{Unavailable, "unavailable"}},
		{"gRPC-Web", "application/grpc-web+proto", demanding, Outcome{Unsendable, UnknownProtocol}},
		{"gRPC-Web in base64", "application/grpc-web-text", demanding, Outcome{Unsendable, UnknownProtocol}},
		{"gRPC-Web, which may have run", "application/grpc-web", careless, Outcome{}},
		{"gRPC", "application/grpc", demanding, Outcome{}},
		{"something else", "text/plain", demanding, Outcome{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := &http.Server{Handler: c.server, Protocols: new(http.Protocols)}
			server.Protocols.SetUnencryptedHTTP2(true)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = server.Serve(ln) }()
			t.Cleanup(func() { _ = server.Close() })
			p := NewPool(Config{
				Service: service, Endpoints: []*url.URL{{Scheme: "http", Host: ln.Addr().String()}},
				Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
			})
			t.Cleanup(p.Close)
			in := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/"+service+"/Call", nil)
			in.Header.Set("Content-Type", c.contentType)
			req := &Request{In: in, Header: in.Header, Look: true}
			res, outcome, err := p.Pick(nil).Try(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res)
			res.Drop()
			if outcome != c.want {
				t.Errorf("got %v, want %v", outcome, c.want)
			}
			if _, refused := p.Refuses(req); refused != (c.want.Cause == UnknownProtocol) {
				t.Errorf("the next one is refused: %v", refused)
			}
		})
	}
}
