package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"holdline/internal/server"
	"holdline/internal/wire"
)

// reverseProxyCommand makes this program a peer: reverseproxy LISTEN BACKEND [PEM].
const reverseProxyCommand = "reverseproxy"

// proxyCommand serves a proxy that is a library: LISTEN BACKEND, and a certificate with its key if it is to speak TLS. It has
// the listener that the gateway has, so that what differs is the proxy.
func proxyCommand(proxy func(backend string) (http.Handler, error)) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		if len(args) < 2 || len(args) > 3 {
			return errors.New("want an address to listen at, a backend's, and a certificate if there is one")
		}
		pem := strings.Join(args[2:], "")
		handler, err := proxy(args[1])
		if err != nil {
			return err
		}
		s, err := server.Listen(server.Config{
			Addr: args[0], Handler: handler, CertFile: pem, KeyFile: pem, Engine: wire.NetHTTP, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return err
		}
		return s.Run(ctx)
	}
}

// reverseProxy is httputil.ReverseProxy, tuned. It passes calls on in the version of HTTP that the caller spoke. It
// needs no FlushInterval: gRPC's responses have no length, and those are
// flushed at once.
func reverseProxy(backend string) (http.Handler, error) {
	h1, h2 := newReverseProxy(backend), newReverseProxy(backend)
	h1.Transport.(*http.Transport).Protocols.SetHTTP1(true)
	h2.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor >= 2 {
			h2.ServeHTTP(w, r)
			return
		}
		// Else net/http closes the request's body when an answer begins. The transport looks once more for its end, may be
		// late for that, and would cut the answer off: go.dev/issue/40747.
		_ = http.NewResponseController(w).EnableFullDuplex()
		h1.ServeHTTP(w, r)
	}), nil
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
