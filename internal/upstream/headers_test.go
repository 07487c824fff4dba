package upstream

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Headers that are more than a server takes over HTTP/2 are not sent to it, not even on
// a new connection, in the clear and over TLS: the connection stays as it is.
func TestHeadersTooLarge(t *testing.T) {
	t.Parallel()
	const limit = 8 << 10
	own := certificate(t, time.Now().Add(time.Hour))
	for _, secure := range []bool{false, true} {
		for name, values := range map[string][]string{
			"one": {strings.Repeat("x", 5*limit)}, "many": strings.Split(strings.Repeat(strings.Repeat("x", 1000)+",", 20), ","),
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var ran, connections atomic.Int64
				server := &http.Server{
					Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
						if r.URL.Path == "/a.B/C" {
							ran.Add(1)
						}
					}),
					MaxHeaderBytes: limit, Protocols: new(http.Protocols),
					ConnState: func(_ net.Conn, state http.ConnState) {
						if state == http.StateNew {
							connections.Add(1)
						}
					},
				}
				server.Protocols.SetUnencryptedHTTP2(true)
				server.Protocols.SetHTTP2(true)
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				var e *Endpoint
				if addr := ln.Addr().String(); secure {
					ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: []string{"h2"}})
					e = secured(t, addr, own)
				} else {
					e = (*openPool(t, nil, "http://"+addr).endpoints.Load())[0]
				}
				go func() { _ = server.Serve(ln) }()
				t.Cleanup(func() { _ = server.Close() })
				for _, stream := range []bool{false, true} {
					if got := postWith(t, e, 2, "message", stream, http.Header{"Cookie": values}); got != (Outcome{Unsendable, HeadersTooLarge}) {
						t.Errorf("got %+v, want it not sent for its headers", got)
					}
				}
				if got := postWith(t, e, 2, "message", false, http.Header{"Cookie": {strings.Repeat("x", limit-200)}}); got.Kind != Answered {
					t.Errorf("with fewer: got %+v, want its answer", got)
				}
				if ran.Load() != 1 || connections.Load() > 2 { // a stream has its own
					t.Errorf("%d ran, on %d connections, want one, and none broken", ran.Load(), connections.Load())
				}
			})
		}
	}
}
