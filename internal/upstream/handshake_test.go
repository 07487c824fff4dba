package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdline/internal/wire/h1"
	"holdline/internal/wire/h2"
)

// certificate makes one for this machine that signs itself.
func certificate(tb testing.TB, until time.Time) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// secured is an endpoint over TLS that trusts a certificate and may show another.
func secured(tb testing.TB, addr string, trusted tls.Certificate, shown ...tls.Certificate) *Endpoint {
	tb.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(trusted.Leaf)
	cfg := &tls.Config{RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(shown) > 0 {
			return &shown[0], nil
		}
		return &tls.Certificate{}, nil
	}}
	e := (*openPool(tb, nil, "https://"+addr).endpoints.Load())[0]
	overHTTP1 := cfg.Clone()
	overHTTP1.VerifyConnection, overHTTP1.NextProtos = e.httpsFor1().VerifyConnection, e.httpsFor1().NextProtos
	trust(e.h1, overHTTP1)
	for _, asker := range e.asking {
		verify := asker.transport.TLSClientConfig
		asker.transport.TLSClientConfig = cfg.Clone()
		if verify != nil {
			asker.transport.TLSClientConfig.VerifyConnection = verify.VerifyConnection
		}
	}
	open := e.h2.open
	e.h2.open = func() transport {
		opened, cfg := open(), cfg.Clone()
		cfg.VerifyConnection = negotiated
		trust(opened, cfg)
		return opened
	}
	return e
}

// trust has a transport of any engine use a configuration.
func trust(opened transport, cfg *tls.Config) {
	switch t := opened.(type) {
	case *http.Transport:
		t.TLSClientConfig = cfg.Clone()
	case *h1.Transport:
		t.TLS = cfg
	case *h2.Transport:
		t.TLS = cfg
	}
}

func post(t *testing.T, e *Endpoint, major int, body string, stream bool) Outcome {
	t.Helper()
	return postWith(t, e, major, body, stream, http.Header{})
}

func postWith(t *testing.T, e *Endpoint, major int, body string, stream bool, header http.Header) Outcome {
	t.Helper()
	req := &Request{Method: http.MethodPost, URL: &url.URL{Path: "/a.B/C"}, HTTPMajor: major, Header: header, Body: []byte(body), Length: int64(len(body)), Look: true}
	if stream {
		req.Body, req.Stream = nil, NewStream(strings.NewReader(body), false)
	}
	res, outcome, err := e.Try(t.Context(), req)
	if err != nil {
		t.Logf("HTTP/%d: %v", major, err)
	}
	if res != nil {
		_, _ = io.Copy(io.Discard, res)
	}
	res.Drop()
	return outcome
}

// A server that refuses our handshake, for what it thinks of our certificate, has
// run nothing: with TLS 1.3 its refusal comes when the request is written already.
func TestHandshakeRefused(t *testing.T) {
	t.Parallel()
	own, foreign := certificate(t, time.Now().Add(time.Hour)), certificate(t, time.Now().Add(time.Hour))
	expired := certificate(t, time.Now().Add(-time.Hour))
	authorities := x509.NewCertPool()
	authorities.AddCert(own.Leaf)
	authorities.AddCert(expired.Leaf)
	demand := func(version uint16) *tls.Config {
		return &tls.Config{
			Certificates: []tls.Certificate{own}, ClientCAs: authorities, ClientAuth: tls.RequireAndVerifyClientCert,
			MinVersion: version, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"},
		}
	}
	refusing := demand(tls.VersionTLS13)
	refusing.ClientAuth = tls.RequestClientCert
	refusing.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not you") }
	for _, c := range []struct {
		name   string
		server *tls.Config
		shown  []tls.Certificate
	}{
		{"no certificate, TLS 1.3", demand(tls.VersionTLS13), nil},
		{"no certificate, TLS 1.2", demand(tls.VersionTLS12), nil},
		{"unknown authority", demand(tls.VersionTLS13), []tls.Certificate{foreign}},
		{"expired", demand(tls.VersionTLS13), []tls.Certificate{expired}},
		{"refused by name", refusing, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := &http.Server{
				Handler:   http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the call was executed") }),
				TLSConfig: c.server, ErrorLog: log.New(io.Discard, "", 0),
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = s.ServeTLS(ln, "", "")
			}()
			t.Cleanup(func() {
				_ = s.Close()
				<-done
			})
			named := map[string]int{}
			for _, major := range []int{1, 2} {
				for _, body := range []string{"", "{}", strings.Repeat("x", 20<<10)} {
					for _, stream := range []bool{false, true} {
						for range 2 { // each end of the connection may find out first
							e := secured(t, ln.Addr().String(), own, c.shown...)
							got := post(t, e, major, body, stream)
							if got.Kind != NotSent {
								t.Errorf("HTTP/%d, %d bytes, stream %t: outcome = %+v, want not sent", major, len(body), stream, got)
							}
							named[got.Cause]++
						}
					}
				}
			}
			if named["tls"] == 0 {
				t.Errorf("causes: %v, want tls", named)
			}
		})
	}
}

// An alert on a connection that has brought an answer is none of the handshake's,
// and neither is one that no handshake ends with.
func TestLaterAlert(t *testing.T) {
	t.Parallel()
	const certificateRequired, internalError = tls.AlertError(116), tls.AlertError(80)
	for _, c := range []struct {
		alert    tls.AlertError
		answered bool
		want     Kind
	}{
		{certificateRequired, false, NotSent},
		{certificateRequired, true, Broken},
		{internalError, false, Broken},
	} {
		for _, major := range []int{1, 2} {
			s := &sent{}
			s.taken.Store(true)
			raw := &conn{closed: make(chan struct{})}
			raw.answered.Store(c.answered)
			s.gotConn(httptrace.GotConnInfo{Conn: tls.Client(raw, &tls.Config{MinVersion: tls.VersionTLS12})})
			err := fmt.Errorf("layer: %w", &net.OpError{Op: "remote error", Err: c.alert})
			if got := s.outcome(t.Context(), err, major); got.Kind != c.want {
				t.Errorf("HTTP/%d, %v, answered before: %t: outcome = %+v, want %s", major, c.alert, c.answered, got, c.want)
			}
		}
	}
}
