package server_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"holdline/internal/server"
	"holdline/internal/server/servertest"
)

// Over HTTP/1.0 a response without a length ends with its connection. A proxy would take for whole what was broken off, unless the connection is
// reset; over TLS, too.
func TestBrokenOverHTTP10(t *testing.T) {
	t.Parallel()
	certFile, keyFile := newPair(t)
	const long = 10_000 // more than is kept so that it gets a length
	for name, cfg := range map[string]server.Config{"plain": {}, "TLS": {CertFile: certFile, KeyFile: keyFile}} {
		cfg.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("a", long))
			_ = http.NewResponseController(w).Flush()
			if r.Header.Get("X-Breaks") != "" {
				panic(http.ErrAbortHandler)
			}
		})
		addr, _ := servertest.Run(t, cfg)
		for _, breaks := range []string{"", "X-Breaks: 1\r\n"} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			if cfg.CertFile != "" {
				conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			}
			_, _ = fmt.Fprintf(conn, "GET / HTTP/1.0\r\n%s\r\n", breaks)
			if got, err := io.ReadAll(conn); (err != nil) != (breaks != "") || err == nil && len(got) < long {
				t.Errorf("%s, %q: got %d bytes, %v", name, breaks, len(got), err)
			}
			_ = conn.Close()
		}
	}
}
