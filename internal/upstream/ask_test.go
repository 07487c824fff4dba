package upstream

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"holdline/internal/freeport"
)

// knows is a health service that knows some names.
type knows map[string]grpchealth.Status

// ServeHTTP implements http.Handler.
func (k knows) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	checker := grpchealth.NewStaticChecker()
	for name, status := range k {
		checker.SetStatus(name, status)
	}
	_, handler := grpchealth.NewHandler(checker)
	handler.ServeHTTP(w, r)
}

// says answers with an RPC error, in the protocol that it is asked in.
func says(code connect.Code) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_ = connect.NewErrorWriter().Write(w, r, connect.NewError(code, io.EOF))
	}
}

func page(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<h1>a page</h1>")
	}
}

// serveIn serves versions of HTTP in the clear, and returns where.
func serveIn(tb testing.TB, handler http.Handler, one, two bool) (addr string) {
	tb.Helper()
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(one)
	server.Protocols.SetUnencryptedHTTP2(two)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	go func() { _ = server.Serve(ln) }()
	tb.Cleanup(func() { _ = server.Close() })
	return ln.Addr().String()
}

// Whoever answers is alive, unless it says that it is not serving; under the name of the service
// where any endpoint has known that.
func TestHealth(t *testing.T) {
	t.Parallel()
	stock := knows{"": grpchealth.StatusServing}
	for name, c := range map[string]struct {
		handler http.Handler
		health  Health
		want    string
	}{
		"knows its name":           {knows{service: grpchealth.StatusServing}, HealthAuto, ""},
		"is not serving":           {knows{service: grpchealth.StatusNotServing}, HealthAuto, notServing},
		"knows no name":            {stock, HealthAuto, ""},
		"knows no name, as a rule": {stock, HealthName, anotherService},
		"a web server, as a rule":  {page(http.StatusNotFound), HealthName, anotherService},
		"a login, as a rule":       {page(http.StatusFound), HealthName, anotherService},
		"a page, as a rule":        {page(http.StatusOK), HealthName, anotherService},
		"has none, as a rule":      {says(connect.CodeUnimplemented), HealthName, anotherService},
		"too often, as a rule":     {page(http.StatusTooManyRequests), HealthName, ""},
		"does not tell, as a rule": {says(connect.CodePermissionDenied), HealthName, ""},
		"a proxy, as a rule":       {page(http.StatusBadGateway), HealthName, "unavailable"},
		"as a whole":               {stock, HealthOverall, ""},
		"not as a whole":           {knows{"": grpchealth.StatusNotServing}, HealthAuto, notServing},
		"not as a whole, dialled":  {knows{"": grpchealth.StatusNotServing}, HealthDial, ""},
		"asks who we are":          {says(connect.CodeUnauthenticated), HealthAuto, ""},
		"does not tell us":         {says(connect.CodePermissionDenied), HealthAuto, ""},
		"fails":                    {says(connect.CodeUnknown), HealthAuto, ""},
		"breaks":                   {says(connect.CodeInternal), HealthAuto, ""},
		"has none":                 {says(connect.CodeUnimplemented), HealthAuto, ""},
		"knows nobody":             {says(connect.CodeNotFound), HealthAuto, ""},
		"is unavailable":           {says(connect.CodeUnavailable), HealthAuto, "unavailable"},
		"a page":                   {page(http.StatusOK), HealthAuto, ""},
		"no page":                  {page(http.StatusNotFound), HealthAuto, ""},
		"another page":             {page(http.StatusFound), HealthAuto, ""},
		"no type":                  {page(http.StatusUnsupportedMediaType), HealthAuto, ""},
		"is asked too often":       {page(http.StatusTooManyRequests), HealthAuto, ""},
		"a proxy alone":            {page(http.StatusBadGateway), HealthAuto, "unavailable"},
		"a proxy that waits":       {page(http.StatusGatewayTimeout), HealthAuto, "unavailable"},
		"a proxy without servers":  {page(http.StatusServiceUnavailable), HealthAuto, "unavailable"},
	} {
		for major := 1; major <= 2; major++ {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				addr := serveIn(t, c.handler, major == 1, major == 2)
				p := NewPool(Config{
					Service: service, Endpoints: []*url.URL{{Scheme: "http", Host: addr}},
					Health: c.health, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
				})
				t.Cleanup(p.Close)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				healthy := p.Healthy(ctx)
				if healthy != (c.want == "") || p.Ailment() != c.want {
					t.Errorf("over HTTP/%d: healthy %v, %q; want %q", major, healthy, p.Ailment(), c.want)
				}
			})
		}
	}
}

// Where the name was known once, who does not know it is another service.
func TestHealthOfAnother(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	p := NewPool(Config{Service: service, Endpoints: []*url.URL{{Scheme: "http", Host: addr}}, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(p.Close)
	for _, c := range []struct {
		name string
		want bool
	}{{"other.v1.Service", true}, {service, true}, {"other.v1.Service", false}, {service, true}} {
		stop := replica(t, addr, c.name)
		if got := p.Healthy(t.Context()); got != c.want {
			t.Errorf("with %s at the address: healthy %v, want %v", c.name, got, c.want)
		}
		stop()
	}
}
