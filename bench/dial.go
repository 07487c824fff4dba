package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"slices"
	"sync"
	"time"
)

// The names of the protocols, as in -protocol.
const (
	protocolConnect    = "connect-h1"
	protocolGRPC       = "grpc-h2c"
	protocolConnectTLS = "connect-tls"
	protocolGRPCTLS    = "grpc-tls"
)

// caller is one connection.
type caller interface {
	// send sends a call. It may wait with that until flush or receive is called.
	send(now time.Time) error
	flush() error
	// receive waits until a call has ended, of those under way any, and returns when it was sent. It is an error if its answer
	// is not that of its message, or the handle that was asked for.
	receive() (sent time.Time, err error)
	// come tells whether advance need not wait. An error ends the connection.
	come() (bool, error)
	// buffered is how many bytes were read, and not taken.
	buffered() int
	// advance takes what has come: a call that has ended, or something less. It is receive, one step at a time.
	advance() (sent time.Time, ended bool, err error)
	// task is the id that the last answer named, empty if it named none.
	task() string
	// expire ends calls that are still in flight then.
	expire(at time.Time) error
	close()
}

// call makes one call.
func call(c caller) error {
	if err := c.send(time.Time{}); err != nil {
		return err
	}
	_, err := c.receive()
	return err
}

// protocol is how a connection is opened, and what is spoken on it. A new one is a new line in protocols.
type protocol struct {
	alpn        string // what is asked for over TLS; empty: without TLS
	multiplexes bool   // several calls can be under way
	speak       func(net.Conn, *ask) caller
}

var protocols = map[string]protocol{
	protocolConnect:    {"", false, newConnectCaller},
	protocolConnectTLS: {"http/1.1", false, newConnectCaller},
	protocolGRPC:       {"", true, newGRPCCaller},
	protocolGRPCTLS:    {"h2", true, newGRPCCaller},
}

// protocolNames are those of the protocols with or without TLS.
func protocolNames(secure bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(protocols)), func(name string) bool { return isSecure(name) != secure })
}

func isSecure(name string) bool { return protocols[name].alpn != "" }

// dial opens a connection in one of the protocols.
func dial(ctx context.Context, name, addr string, a *ask) (caller, error) {
	conn, err := connect(ctx, name, addr)
	if err != nil {
		return nil, err
	}
	return protocols[name].speak(conn, a), nil
}

func connect(ctx context.Context, name, addr string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: 5 * time.Second}
	if !isSecure(name) {
		return plain.DialContext(ctx, "tcp", addr)
	}
	trusted, err := certificate()
	if err != nil {
		return nil, err
	}
	secure := &tls.Dialer{NetDialer: plain, Config: &tls.Config{RootCAs: trusted.roots, NextProtos: []string{protocols[name].alpn}}}
	return secure.DialContext(ctx, "tcp", addr)
}

const loopback = "127.0.0.1"

// trust is a certificate that all proxies show: with its key, as PEM, and as what is trusted.
type trust struct {
	pem   []byte
	roots *x509.CertPool
}

// certificate is made once, and signed by itself.
var certificate = sync.OnceValues(func() (trust, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return trust{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.ParseIP(loopback)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	shown, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return trust{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return trust{}, err
	}
	t := trust{roots: x509.NewCertPool()}
	for _, block := range []pem.Block{{Type: "CERTIFICATE", Bytes: shown}, {Type: "PRIVATE KEY", Bytes: secret}} {
		t.pem = append(t.pem, pem.EncodeToMemory(&block)...)
	}
	t.roots.AppendCertsFromPEM(t.pem)
	return t, nil
})
