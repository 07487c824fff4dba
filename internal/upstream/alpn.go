package upstream

import (
	"context"
	"crypto/tls"
)

// httpsFor1 is the TLS configuration of connections for HTTP/1.1. A server that speaks only HTTP/2 may finish the handshake without picking a protocol, read
// HTTP/1.1, and answer that it wants HTTP/2. Node does this with a 403 that looks like the service's own.
func (e *Endpoint) httpsFor1() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.NegotiatedProtocol == "" && !e.versions.yes[of(1)].Load() && e.versions.allowed(2) && e.picksHTTP2() {
				return errVersion
			}
			return nil
		},
	}
}

// picksHTTP2 asks a server that has picked no protocol whether it picks HTTP/2.
func (e *Endpoint) picksHTTP2() bool {
	ctx, cancel := context.WithTimeout(e.pool.ctx, dialTimeout/2) // another handshake waits for it
	defer cancel()
	asking := e.asking[of(2)].transport
	dialled, err := asking.DialContext(ctx, "tcp", e.address())
	if err != nil {
		return false
	}
	defer func() { _ = dialled.Close() }()
	cfg := asking.TLSClientConfig.Clone() // it insists on HTTP/2
	cfg.ServerName, cfg.NextProtos = e.url.Hostname(), []string{"h2"}
	return tls.Client(dialled, cfg).HandshakeContext(ctx) == nil
}
