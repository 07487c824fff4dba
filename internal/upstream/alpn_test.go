package upstream

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"
)

// A server that picks no protocol may know HTTP/2 alone, and say so over HTTP/1.1, as one of Node's does: with a status that
// looks like the service's own. It gets the call over HTTP/2. One that knows HTTP/1.1 gets it so, whatever else it knows.
func TestServersThatPickNoProtocol(t *testing.T) {
	t.Parallel()
	own := certificate(t, time.Now().Add(time.Hour))
	for name, c := range map[string]struct {
		picks []string // of what is offered
		want  []int    // the versions of calls, the first two from callers over HTTP/1.1
	}{
		"HTTP/2 alone, like Node":        {[]string{"h2"}, []int{2, 2, 2}},
		"both":                           {[]string{"h2", "http/1.1"}, []int{1, 1, 2}},
		"HTTP/1.1, and says no protocol": {nil, []int{1, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ran []int
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path != "/a.B/C": // a question
				case r.ProtoMajor == 1 && c.picks != nil && !slices.Contains(c.picks, "http/1.1"):
					w.WriteHeader(http.StatusForbidden)
					ran = append(ran, 403)
				default:
					ran = append(ran, r.ProtoMajor)
				}
			})}
			server.TLSConfig = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				cfg := &tls.Config{Certificates: []tls.Certificate{own}}
				for _, protocol := range c.picks {
					if slices.Contains(hello.SupportedProtos, protocol) {
						cfg.NextProtos = append(cfg.NextProtos, protocol)
					}
				}
				return cfg, nil
			}}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = server.ServeTLS(ln, "", "") }()
			t.Cleanup(func() { _ = server.Close() })
			e := secured(t, ln.Addr().String(), own)
			for _, major := range []int{1, 1, 2} {
				if got := post(t, e, major, "message", false); got.Kind != Answered {
					t.Errorf("HTTP/%d: got %+v, want an answer", major, got)
				}
			}
			if got := fmt.Sprint(ran); got != fmt.Sprint(c.want) {
				t.Errorf("calls came over HTTP/%s, want %v", got, c.want)
			}
		})
	}
}
