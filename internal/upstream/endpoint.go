package upstream

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
)

// Limits of every connection to an endpoint.
const (
	dialTimeout = time.Second // DNS, TCP; and again for TLS
	// expectTimeout is how long a caller's Expect: 100-continue is waited for;
	// many servers never answer it.
	expectTimeout = time.Second
	idleTimeout   = 90 * time.Second
	maxIdleConns  = 512 // HTTP/1.1, per endpoint
	pingAfter     = 15 * time.Second
	pingTimeout   = 5 * time.Second
)

// Endpoint is one address of a route, with connections of its own. It is safe
// for concurrent use.
type Endpoint struct {
	pool     *Pool
	url      *url.URL
	addr     string // that the URL's name stands for; empty: dial the URL's host
	h1, h2   *http.Transport
	health   [2]*grpchealth.Client // gRPC over HTTP/2, Connect over HTTP/1.1
	inflight atomic.Int64
	broken   atomic.Int64 // attempts in a row
	ejected  atomic.Bool  // to be picked last
	gone     atomic.Bool  // no longer in the pool
	lanes    sync.Map     // lane → *http.Transport, of HTTP/2
}

func newEndpoint(pool *Pool, u *url.URL, addr string) *Endpoint {
	e := &Endpoint{pool: pool, url: u, addr: addr, h1: newTransport(addr), h2: newTransport(addr)}
	e.h1.Protocols.SetHTTP1(true)
	e.speakHTTP2(e.h2)
	e.health = [2]*grpchealth.Client{
		grpchealth.NewClient(&http.Client{Transport: e.h2}, u.String(), connect.WithGRPC()),
		grpchealth.NewClient(&http.Client{Transport: e.h1}, u.String()),
	}
	return e
}

func newTransport(addr string) *http.Transport {
	// A node that is cut off says nothing, not even that. HTTP/2 finds out by
	// pings; here TCP has to, in the same time, with a request on its way or not.
	dialer := &net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: pingAfter, Interval: time.Second, Count: int(pingTimeout / time.Second)},
		Control:         limitSilence,
	}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, host string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, cmp.Or(addr, host))
			if err != nil {
				return nil, err
			}
			return &conn{Conn: c, closed: make(chan struct{})}, nil
		},
		TLSHandshakeTimeout:   dialTimeout,
		ExpectContinueTimeout: expectTimeout,
		MaxIdleConnsPerHost:   maxIdleConns,
		IdleConnTimeout:       idleTimeout,
		DisableCompression:    true, // bytes pass as they are
		Protocols:             new(http.Protocols),
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
}

// String is the endpoint's address, or its URL where that is not known.
func (e *Endpoint) String() string { return cmp.Or(e.addr, e.url.String()) }

func (e *Endpoint) speakHTTP2(t *http.Transport) {
	if e.url.Scheme == "https" {
		t.Protocols.SetHTTP2(true)
	} else {
		t.Protocols.SetUnencryptedHTTP2(true)
	}
}

// transport mirrors the HTTP version of the caller. Over HTTP/1.1 each call has a
// connection for itself.
func (e *Endpoint) transport(httpMajor, lane int) *http.Transport {
	switch {
	case httpMajor < 2:
		return e.h1
	case lane == 0:
		return e.h2
	}
	if t, ok := e.lanes.Load(lane); ok {
		return t.(*http.Transport)
	}
	t := newTransport(e.addr)
	e.speakHTTP2(t)
	kept, _ := e.lanes.LoadOrStore(lane, t)
	return kept.(*http.Transport)
}

// Healthy asks grpc.health.v1 for the service: over gRPC, and where that is not
// spoken over Connect and HTTP/1.1. A service without health (unimplemented, 404,
// 415) is healthy when it can be dialled; one that does not know the service's
// name is another one, at an address that was handed on.
func (e *Endpoint) Healthy(ctx context.Context) bool {
	for _, client := range e.health {
		res, err := client.Check(ctx, &grpchealth.CheckRequest{Service: e.pool.service})
		if err == nil {
			return res.Status == grpchealth.StatusServing
		}
		switch connect.CodeOf(err) {
		case connect.CodeUnimplemented:
			return true
		case connect.CodeNotFound:
			return false
		case connect.CodeUnknown:
			if client == e.health[len(e.health)-1] {
				return true // 415, say: there is a server, without health
			}
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return false
}

// close drops idle connections; those in use close when their calls end.
func (e *Endpoint) close() {
	e.gone.Store(true)
	e.h1.CloseIdleConnections()
	e.h2.CloseIdleConnections()
	e.lanes.Range(func(_, t any) bool {
		t.(*http.Transport).CloseIdleConnections()
		return true
	})
}
