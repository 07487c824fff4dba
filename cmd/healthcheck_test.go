package cmd

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/grpchealth"

	"holdline/internal/freeport"
)

// The server on this machine may speak TLS, with a certificate for callers: its health check does not know that, and works all the same.
func TestHealthcheckOfOurOwn(t *testing.T) {
	t.Parallel()
	server := func(start func(*httptest.Server), status grpchealth.Status) string {
		checker := grpchealth.NewStaticChecker()
		checker.SetStatus("", status)
		mux := http.NewServeMux()
		mux.Handle(grpchealth.NewHandler(checker))
		s := httptest.NewUnstartedServer(mux)
		start(s)
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	for name, test := range map[string]struct{ listen, want string }{
		"serves":                   {server((*httptest.Server).Start, grpchealth.StatusServing), ""},
		"does not serve":           {server((*httptest.Server).Start, grpchealth.StatusNotServing), "not-serving"},
		"serves with TLS":          {server((*httptest.Server).StartTLS, grpchealth.StatusServing), ""},
		"does not serve, with TLS": {server((*httptest.Server).StartTLS, grpchealth.StatusNotServing), "not-serving"},
		"something else, with TLS": {secured(t), "another-service"},
		"nobody is there":          {freeport.Addr(t), "dial-refused"},
	} {
		err := (&Healthcheck{Listen: test.listen}).Run(t.Context())
		if (err == nil) != (test.want == "") || err != nil && !strings.HasSuffix(err.Error(), "is not healthy: "+test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func secured(t *testing.T) string {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
