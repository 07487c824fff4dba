package upstream

import (
	"cmp"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	"connectrpc.com/connect"
)

// Endpoint is one address of a route, with connections of its own. It is safe
// for concurrent use.
type Endpoint struct {
	pool     *Pool
	url      *url.URL
	addr     string // the address that the URL's name resolved to; empty: dial the URL's host
	versions versions
	h1       transport
	h2       lanes
	asking   [2]*asker // over HTTP/1.1 and HTTP/2
	inflight atomic.Int64
	broken   atomic.Int64 // attempts that broke, in a row
	ejected  atomic.Bool  // to be picked last
	others   lacking      // whether it understands calls of unknown protocols; forgotten with the last connection
	gone     atomic.Bool  // no longer in the pool

	begun   atomic.Int64 // attempts
	watched atomic.Bool  // watch runs
	doubted atomic.Bool  // watch must ask at once: another endpoint gives no sign of life
	heard   atomic.Bool  // it gave a sign of life since watch looked last
	silent  atomic.Bool  // it gives no sign of life
	cuts    atomic.Int64 // how often its attempts were cut for that
	connsMu sync.Mutex
	conns   map[*conn]struct{} // connections for calls, not for health checks
}

func newEndpoint(pool *Pool, u *url.URL, addr string) *Endpoint {
	e := &Endpoint{pool: pool, url: u, addr: addr, conns: map[*conn]struct{}{}}
	e.versions.only = pool.says.Load().HTTP
	e.h1 = e.openHTTP1()
	e.h2.owned = map[string]*lane{}
	e.h2.open = e.openHTTP2
	e.asking = [2]*asker{
		newAsker(overHTTP1(e.newHealthTransport(1)), u),
		newAsker(e.overHTTP2(e.newHealthTransport(2)), u, connect.WithGRPC()),
	}
	return e
}

// SpeaksHTTP2 is false if the endpoint has shown that it does not speak HTTP/2, or its route forbids HTTP/2.
func (e *Endpoint) SpeaksHTTP2() bool { return e.versions.speaks(2) }

// Asking returns a client for our own questions over HTTP/2, on connections of their own, and the URL
// to ask at. The client follows no redirects.
func (e *Endpoint) Asking() (client *http.Client, url string) {
	return &http.Client{
		Transport:     e.asking[of(2)].transport.Clone(), // questions that share a connection lose it when one of them ends
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, e.url.String()
}

// String is the endpoint's address, or its URL if the address is not known.
func (e *Endpoint) String() string { return cmp.Or(e.addr, e.url.String()) }

// Authority is the host that requests to the endpoint name.
func (e *Endpoint) Authority() string { return e.url.Host }

// LogValue implements slog.LogValuer: JSON would show nothing of an endpoint.
func (e *Endpoint) LogValue() slog.Value { return slog.StringValue(e.String()) }

// close drops idle connections; those in use close when their calls end.
func (e *Endpoint) close() {
	e.gone.Store(true)
	e.h1.CloseIdleConnections()
	e.h2.close()
	for _, asker := range e.asking {
		asker.transport.CloseIdleConnections()
	}
}
