package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"holdline/internal/server"
)

// reverseProxyCommand makes this program a peer: reverseproxy LISTEN BACKEND.
const reverseProxyCommand = "reverseproxy"

// serveReverseProxy serves httputil.ReverseProxy, tuned, until ctx ends. It has
// the listener that the gateway has, so that what differs is the proxy.
func serveReverseProxy(ctx context.Context, listen, backend string) error {
	s, err := server.Listen(server.Config{Addr: listen, Handler: reverseProxy(backend), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// reverseProxy passes calls on in the version of HTTP that the caller spoke. It
// needs no FlushInterval: gRPC's responses have no length, and those are
// flushed at once.
func reverseProxy(backend string) http.Handler {
	h1, h2 := newReverseProxy(backend), newReverseProxy(backend)
	h1.Transport.(*http.Transport).Protocols.SetHTTP1(true)
	h2.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor >= 2 {
			h2.ServeHTTP(w, r)
		} else {
			h1.ServeHTTP(w, r)
		}
	})
}

func newReverseProxy(backend string) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", backend
		},
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 512,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
			Protocols:           new(http.Protocols),
		},
		BufferPool: new(bufferPool),
	}
}

// bufferPool implements httputil.BufferPool. It keeps pointers to arrays: a
// slice put into a sync.Pool would be allocated each time.
type bufferPool struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[bufferSize]byte); ok {
		return b[:]
	}
	return make([]byte, bufferSize)
}

func (p *bufferPool) Put(b []byte) { p.pool.Put((*[bufferSize]byte)(b)) }
