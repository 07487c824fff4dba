package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"holdline/internal/server"
	"holdline/internal/server/servertest"
)

func TestMain(m *testing.M) {
	if os.Getenv(descriptorsEnv) != "" {
		few()
		return
	}
	goleak.VerifyTestMain(m)
}

// serve runs a server that answers with the version of HTTP of the request.
func serve(tb testing.TB, certFile, keyFile string) (addr string) {
	tb.Helper()
	addr, _ = servertest.Run(tb, server.Config{
		Handler:  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }),
		CertFile: certFile,
		KeyFile:  keyFile,
	})
	return addr
}

func get(tb testing.TB, transport *http.Transport, url string) (body string, status int) {
	tb.Helper()
	tb.Cleanup(transport.CloseIdleConnections)
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw), res.StatusCode
}

func protocols(set func(*http.Protocols)) *http.Protocols {
	p := new(http.Protocols)
	set(p)
	return p
}

func TestPlain(t *testing.T) {
	t.Parallel()
	addr := serve(t, "", "")
	for want, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2.0": func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		if got, _ := get(t, &http.Transport{Protocols: protocols(set)}, "http://"+addr); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// newPair writes a certificate and its key.
func newPair(tb testing.TB) (certFile, keyFile string) {
	tb.Helper()
	dir := tb.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	server.WritePair(tb, certFile, keyFile, "first")
	return certFile, keyFile
}

// ALPN chooses the version of HTTP. Calls without TLS are refused.
func TestTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile := newPair(t)
	addr := serve(t, certFile, keyFile)
	pem, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for want, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2.0": func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) },
	} {
		transport := &http.Transport{Protocols: protocols(set), TLSClientConfig: &tls.Config{RootCAs: roots}}
		if got, _ := get(t, transport, "https://"+addr); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if body, status := get(t, &http.Transport{}, "http://"+addr); status != http.StatusBadRequest {
		t.Errorf("without TLS: got %d %s, want 400", status, body)
	}
}

// A server whose certificate and key cannot be used does not start.
func TestTLSNeedsThePair(t *testing.T) {
	t.Parallel()
	certFile, keyFile := newPair(t)
	dir := filepath.Dir(certFile)
	other := filepath.Join(dir, "other.pem")
	server.WritePair(t, filepath.Join(dir, "other-cert.pem"), other, "other")
	for name, pair := range map[string][2]string{
		"key missing": {certFile, ""}, "certificate missing": {"", keyFile},
		"no such file": {certFile, filepath.Join(dir, "none.pem")}, "another key": {certFile, other},
	} {
		s, err := server.Listen(server.Config{
			Addr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), CertFile: pair[0], KeyFile: pair[1],
		})
		if err == nil {
			s.Close()
			t.Errorf("%s: it listens", name)
		}
	}
}
