package upstream

import (
	"crypto/tls"
	"net/http"

	"holdline/internal/wire"
	"holdline/internal/wire/h1"
	"holdline/internal/wire/h2"
)

// transport sends requests over one version of HTTP.
type transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

func (e *Endpoint) isNetHTTP() bool { return e.pool.says.Load().Engine.IsNetHTTP() }

// openHTTP1 returns a transport for calls over HTTP/1.1.
func (e *Endpoint) openHTTP1() transport {
	if e.isNetHTTP() {
		t := overHTTP1(e.newTransport(1))
		t.TLSClientConfig = e.httpsFor1()
		return t
	}
	return &h1.Transport{
		Dialer:        wire.Dialer{Dial: e.dialer(1), TLS: e.httpsFor1(), HandshakeTimeout: dialTimeout},
		ExpectTimeout: expectTimeout, IdleTimeout: idleTimeout, MaxIdle: maxIdleConns,
	}
}

// openHTTP2 returns a transport for calls over HTTP/2.
func (e *Endpoint) openHTTP2() transport {
	if e.isNetHTTP() {
		return e.overHTTP2(e.newTransport(2))
	}
	return &h2.Transport{
		Dialer:        wire.Dialer{Dial: e.dialer(2), TLS: &tls.Config{VerifyConnection: negotiated, MinVersion: tls.VersionTLS12}, HandshakeTimeout: dialTimeout},
		ExpectTimeout: expectTimeout, IdleTimeout: idleTimeout,
	}
}
