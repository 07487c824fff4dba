package upstream

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
)

// Endpoint is one address of a route, with connections of its own. It is safe
// for concurrent use.
type Endpoint struct {
	pool     *Pool
	url      *url.URL
	addr     string // that the URL's name stands for; empty: dial the URL's host
	h1       *http.Transport
	h2       lanes
	health   [2]*grpchealth.Client // gRPC over HTTP/2, Connect over HTTP/1.1
	asking   [2]*http.Transport    // those of health
	inflight atomic.Int64
	broken   atomic.Int64 // attempts in a row
	ejected  atomic.Bool  // to be picked last
	gone     atomic.Bool  // no longer in the pool

	begun   atomic.Int64 // attempts
	watched atomic.Bool  // watch runs
	doubted atomic.Bool  // to be asked at once: another endpoint gives no sign of life
	heard   atomic.Bool  // something, since watch looked last
	silent  atomic.Bool  // it gives no sign of life
	cuts    atomic.Int64 // how often its attempts were cut for that
	connsMu sync.Mutex
	conns   map[*conn]struct{} // those of calls
}

func newEndpoint(pool *Pool, u *url.URL, addr string) *Endpoint {
	e := &Endpoint{pool: pool, url: u, addr: addr, conns: map[*conn]struct{}{}}
	e.h1 = overHTTP1(e.newTransport())
	e.h2.owned = map[string]*lane{}
	e.h2.open = func() *http.Transport { return e.overHTTP2(e.newTransport()) }
	e.asking = [2]*http.Transport{e.overHTTP2(e.newHealthTransport()), overHTTP1(e.newHealthTransport())}
	e.health = [2]*grpchealth.Client{
		grpchealth.NewClient(&http.Client{Transport: e.asking[0]}, u.String(), connect.WithGRPC()),
		grpchealth.NewClient(&http.Client{Transport: e.asking[1]}, u.String()),
	}
	return e
}

// String is the endpoint's address, or its URL where that is not known.
func (e *Endpoint) String() string { return cmp.Or(e.addr, e.url.String()) }

// LogValue implements slog.LogValuer: JSON would show nothing of an endpoint.
func (e *Endpoint) LogValue() slog.Value { return slog.StringValue(e.String()) }

// Healthy asks grpc.health.v1 for the service: over gRPC, and where that is not
// spoken over Connect and HTTP/1.1. A service without health (unimplemented, 404,
// 415) is healthy when it can be dialled; one that does not know the service's
// name is another one, at an address that was handed on.
func (e *Endpoint) Healthy(ctx context.Context) bool {
	ailment := e.ailment(ctx)
	if ailment != "" && !errors.Is(ctx.Err(), context.Canceled) {
		e.pool.ailment.Store(&ailment)
	}
	return ailment == ""
}

// ailment is why an endpoint is not healthy, in a word; empty when it is.
func (e *Endpoint) ailment(ctx context.Context) (why string) {
	for _, client := range e.health {
		res, err := client.Check(ctx, &grpchealth.CheckRequest{Service: e.pool.service})
		if err == nil {
			if res.Status == grpchealth.StatusServing {
				return ""
			}
			return "not-serving"
		}
		switch connect.CodeOf(err) {
		case connect.CodeUnimplemented:
			return ""
		case connect.CodeNotFound:
			return "another-service"
		case connect.CodeUnknown:
			if client == e.health[len(e.health)-1] {
				return "" // 415, say: there is a server, without health
			}
		}
		if ctx.Err() != nil {
			return "timeout"
		}
		why = causeOf(err)
	}
	return why
}

// close drops idle connections; those in use close when their calls end.
func (e *Endpoint) close() {
	e.gone.Store(true)
	e.h1.CloseIdleConnections()
	e.h2.close()
	for _, transport := range e.asking {
		transport.CloseIdleConnections()
	}
}
