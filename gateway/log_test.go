package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/gateway"
	"holdline/internal/freeport"
	"holdline/internal/route"
	"holdline/internal/server/servertest"
)

// logged is what a gateway has logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// lines are those that have all of some parts.
func (l *logged) lines(parts ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for line := range strings.Lines(l.text.String()) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue next
			}
		}
		found = append(found, line)
	}
	return found
}

// await waits for a line.
func (l *logged) await(t *testing.T, parts ...string) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for len(l.lines(parts...)) == 0 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no line with %q:\n%s", parts, strings.Join(l.lines(), ""))
		}
	}
}

// once checks that there is one line with some parts.
func (l *logged) once(t *testing.T, parts ...string) {
	t.Helper()
	if got := len(l.lines(parts...)); got != 1 {
		t.Errorf("%d lines with %q, want 1:\n%s", got, parts, strings.Join(l.lines(), ""))
	}
}

// frontLogged is frontMOM with a log to be read.
func frontLogged(t *testing.T, endpoints string, moms ...string) (base string, out *logged) {
	t.Helper()
	routes, err := route.ParseTable([]string{faultService + "=" + endpoints})
	if err != nil {
		t.Fatal(err)
	}
	out = &logged{}
	cfg := gateway.Config{Routes: routes, Schemas: faultSchemas(t), Logger: slog.New(slog.NewTextHandler(out, nil))}
	for _, addr := range moms {
		cfg.MOM = append(cfg.MOM, &url.URL{Scheme: "http", Host: addr})
	}
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	servertest.Keep(t, g)
	return "http://" + serve(t, g), out
}

// callOnce makes a call and waits for the end of its answer.
func callOnce(t *testing.T, base, path, body string, headers ...string) {
	t.Helper()
	res, err := client(t, 1).Do(request(t, base+path, strings.NewReader(body), append(headers, "Content-Type: application/json")...))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
}

// An outage has a line when the first call goes to the MOM, one when the breaker opens,
// and one when the service is back, however many calls there were.
func TestOutageIsLogged(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	base, out := frontLogged(t, "http://"+addr, newStandIn(t, nil).addr)
	for range 20 {
		callOnce(t, base, add.path, "{}")
	}
	for _, parts := range [][]string{
		{"level=WARN", "a service fails: its calls are handed off to the MOM", "service=" + faultService, "cause=dial-refused", "connection refused"},
		{"level=WARN", "breaker open", "service=" + faultService, "cause=dial-refused"},
	} {
		out.once(t, parts...)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	service := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") })}
	go func() { _ = service.Serve(listener) }()
	t.Cleanup(func() { _ = service.Close() })
	out.await(t, "level=INFO", "breaker closed", "service="+faultService, "after=")
	out.await(t, "level=INFO", "the service is back", "service="+faultService, "after=", "handed_off=20")
	if got := out.lines("down="); len(got) > 0 {
		t.Errorf("a service is said to have been down: %s", got)
	}
}

// An error in place of an answer that cannot be translated is ours, and not the service's.
func TestUnwrittenAnswerIsLogged(t *testing.T) {
	t.Parallel()
	large := make([]byte, 5<<20)
	service := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") != "application/grpc" {
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(large))))
		_, _ = w.Write(large)
		w.Header().Set("Grpc-Status", "0")
	}))
	base, out := frontLogged(t, "http://"+service)
	res, err := client(t, 1).Do(request(t, base+add.path, strings.NewReader("{}"), "Content-Type: application/json", "Holdline-Explain: 1"))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if decision := res.Header.Get("Holdline-Decision"); res.StatusCode != http.StatusTooManyRequests || !strings.Contains(decision, ";answer-not-written;") || !strings.HasSuffix(decision, " → failed") {
		t.Errorf("got %d, decision %s", res.StatusCode, decision)
	}
	out.once(t, "level=WARN", "call not served", "reason=ANSWER_TOO_LARGE", "procedure="+add.path)
}

// A call that asks to be stored is no sign of an outage.
func TestKeysAreNoOutage(t *testing.T) {
	t.Parallel()
	base, out := frontLogged(t, "http://127.0.0.1:1", newStandIn(t, nil).addr)
	callOnce(t, base, add.path, "{}", "Idempotency-Key: k")
	callOnce(t, base, add.path, "{}", "Prefer: respond-async")
	if got := out.lines("fails"); len(got) > 0 {
		t.Errorf("got %s, want nothing: the service was not asked", got)
	}
}

// An expired certificate is named where it makes a service fail.
func TestExpiredCertificateIsLogged(t *testing.T) {
	t.Parallel()
	service := httptest.NewUnstartedServer(http.NotFoundHandler())
	service.Config.ErrorLog = log.New(io.Discard, "", 0) // it would tell of each handshake
	service.TLS = &tls.Config{Certificates: []tls.Certificate{expired(t)}}
	service.StartTLS()
	t.Cleanup(service.Close)
	base, out := frontLogged(t, service.URL, newStandIn(t, nil).addr)
	for range 6 {
		callOnce(t, base, add.path, "{}")
	}
	out.once(t, "level=WARN", "a service fails", "cause=tls", "error=")
	out.once(t, "level=WARN", "breaker open", "cause=tls")
}

// expired makes a certificate that was good until an hour ago.
func expired(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// What callers are told of unknown outcomes, and what is refused, is logged once.
func TestErrorsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	abort := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}))
	base, out := frontLogged(t, "http://"+abort, "127.0.0.1:1")
	for range 3 {
		callOnce(t, base, add.path, "{}")
		callOnce(t, base, add.path, strings.Repeat(" ", 2<<20), "Idempotency-Key: k")
		callOnce(t, base, "/made.up.Service/Call", "{}")
		callOnce(t, base, add.path, "{}", "Idempotency-Key: k")
	}
	for _, parts := range [][]string{
		{"level=WARN", "a caller was told that the outcome is unknown", "service=" + faultService, "cause=closed", "procedure=" + add.path},
		{"level=INFO", "call not served", "REQUEST_TOO_LARGE"},
		{"level=INFO", "call not served", "NO_ROUTE", "service=made.up.Service"},
		{"level=WARN", "call not served", "STORE_UNAVAILABLE", "task=" + faultService + ".0."},
	} {
		out.once(t, parts...)
	}
}
