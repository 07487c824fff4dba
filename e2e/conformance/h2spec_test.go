package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"holdline/gateway"
	_ "holdline/gen/arithmetic/v1"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/internal/server/servertest"
)

// h2specCases is how many there are for servers, without those for strict ones.
const h2specCases = 145

// The gateway speaks HTTP/2 no worse than net/http's own server does, whether it
// reads a call first or streams it.
func TestH2Spec(t *testing.T) {
	t.Parallel()
	const unary, stream = "/arithmetic.v1.SumService/Sum", "/test.v1.Stream/Any" // the latter in no schema
	for _, c := range []struct {
		name, path string
		tls        bool
	}{{"unary", unary, false}, {"stream", stream, false}, {"unary over TLS", unary, true}, {"stream over TLS", stream, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			reference := netHTTP(t, c.tls)
			ours := newConfig(t, gatewayBefore(t, netHTTP(t, false), reference), c.path, c.tls)
			theirs := newConfig(t, reference.Listener.Addr().String(), c.path, c.tls)
			all, gateway, nethttp := 0, 0, 0
			for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
				each(group, func(id string, tc *spec.TestCase) {
					all++
					passes, err := attempt(tc, theirs) == nil, attempt(tc, ours)
					// What arrives first decides some cases, at any server.
					for again := 0; again < 5 && passes && err != nil; again++ {
						passes, err = attempt(tc, theirs) == nil, attempt(tc, ours)
					}
					if passes {
						nethttp++
					}
					if err == nil {
						gateway++
					} else if passes {
						t.Errorf("%s %s: net/http passes, the gateway does not: %v", id, tc.Desc, err)
					}
				})
			}
			t.Logf("h2spec: gateway %d of %d, net/http %d of %d", gateway, all, nethttp, all)
			if all != h2specCases {
				t.Errorf("%d cases, want %d", all, h2specCases)
			}
		})
	}
}

// each calls a function for all cases that are not strict.
func each(group *spec.TestGroup, do func(id string, tc *spec.TestCase)) {
	for i, tc := range group.Tests {
		if !tc.Strict {
			do(fmt.Sprintf("%s/%d", group.ID(), i+1), tc)
		}
	}
	for _, sub := range group.Groups {
		each(sub, do)
	}
}

// attempt runs a case, silently.
func attempt(tc *spec.TestCase, cfg *config.Config) error {
	conn, err := spec.Dial(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return tc.Run(cfg, conn)
}

func newConfig(tb testing.TB, addr, path string, tls bool) *config.Config {
	tb.Helper()
	resolved, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	return &config.Config{
		Host: resolved.IP.String(), Port: resolved.Port, Path: path, TLS: tls, Insecure: true,
		Timeout: time.Second, MaxHeaderLen: 4000, // as its command line has it
	}
}

// netHTTP runs net/http's own server, with the limits that ours has.
func netHTTP(tb testing.TB, tls bool) *httptest.Server {
	tb.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "enough for a window")
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // it would tell of every case
	s.Config.MaxHeaderBytes = 64 << 10
	s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 250, MaxReadFrameSize: 64 << 10}
	if s.EnableHTTP2 = tls; tls {
		s.StartTLS()
	} else {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP1(true)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	}
	tb.Cleanup(s.Close)
	return s
}

// gatewayBefore runs a gateway, with the certificate of another server if that
// has one.
func gatewayBefore(tb testing.TB, service, certified *httptest.Server) (addr string) {
	tb.Helper()
	cfg := server.Config{Handler: newGateway(tb, gateway.Config{}, nil, "arithmetic.v1.SumService="+service.URL, "test.v1.Stream="+service.URL), Logger: slog.New(slog.DiscardHandler)}
	if certified.TLS != nil {
		pair := certified.TLS.Certificates[0]
		key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
		if err != nil {
			tb.Fatal(err)
		}
		cfg.CertFile = writePEM(tb, "CERTIFICATE", pair.Certificate[0])
		cfg.KeyFile = writePEM(tb, "PRIVATE KEY", key)
	}
	addr, _ = servertest.Run(tb, cfg)
	return addr
}

func writePEM(tb testing.TB, kind string, raw []byte) (name string) {
	tb.Helper()
	name = filepath.Join(tb.TempDir(), "pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		tb.Fatal(err)
	}
	return name
}

// newGateway runs a gateway that knows images.
func newGateway(tb testing.TB, cfg gateway.Config, images []string, routes ...string) *gateway.Gateway {
	tb.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	var err error
	if cfg.Routes, err = route.ParseTable(routes); err != nil {
		tb.Fatal(err)
	}
	if cfg.Schemas, err = route.LoadSchemas(images...); err != nil {
		tb.Fatal(err)
	}
	g, err := gateway.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	servertest.Keep(tb, g)
	return g
}
