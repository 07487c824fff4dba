package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"golang.org/x/net/http2"

	"holdline/internal/wire"
	"holdline/internal/wire/h2"
)

// speakHTTP2 has our own engine serve HTTP/2. net/http accepts the connections, and serves HTTP/1.1.
func (s *Server) speakHTTP2(limits Limits) {
	plain, _ := s.handler.(wire.PlainHandler)
	own := &h2.Server{
		MaxStreams: limits.Streams, MaxHeaderBytes: limits.HeaderBytes, HeaderTimeout: limits.HeaderTimeout,
		IdleTimeout: limits.IdleTimeout, PingTimeout: min(pingTimeout, limits.IdleTimeout), Full: s.warnStreams, Log: s.log,
	}
	if plain != nil {
		own.Plain = func(req *wire.Request) (*wire.Response, http.Handler) {
			if s.ln.crowded.Load() || s.leaving.Load() {
				return nil, nil
			}
			return plain.ServePlain(req)
		}
	}
	s.http.RegisterOnShutdown(own.Shutdown)
	serve := func(c net.Conn, h http.Handler, greeted bool) {
		ctx := context.Background()
		if of, ok := h.(interface{ BaseContext() context.Context }); ok {
			ctx = of.BaseContext()
		}
		if err := own.Serve(ctx, c, h, greeted); err != nil {
			s.log.Debug("connection ended", "peer", c.RemoteAddr().String(), "error", err)
		}
	}
	s.http.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		http2.NextProtoTLS: func(_ *http.Server, c *tls.Conn, h http.Handler) { serve(c, h, false) },
		// As golang.org/x/net/http2 gets connections without TLS: in a *tls.Conn, and their preface has been read.
		"unencrypted_http2": func(_ *http.Server, c *tls.Conn, h http.Handler) {
			if clear, ok := c.NetConn().(interface{ UnencryptedNetConn() net.Conn }); ok {
				serve(clear.UnencryptedNetConn(), h, true)
			}
		},
	}
}
