package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdline/internal/stack"
	"holdline/services"
)

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := median(test.values); got != test.want {
			t.Errorf("median(%v) = %v, want %v", test.values, got, test.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, test := range []struct {
		sorted []time.Duration
		p      int
		want   time.Duration
	}{{nil, 50, 0}, {hundred[:1], 99, 1}, {hundred, 50, 50}, {hundred, 99, 99}, {hundred[:3], 50, 2}, {hundred, 0, 1}} {
		if got := percentile(test.sorted, test.p); got != test.want {
			t.Errorf("percentile of %d values, %d = %d, want %d", len(test.sorted), test.p, got, test.want)
		}
	}
}

// TestCallers calls the real service, on its own and behind ReverseProxy, often
// enough to use up a first flow control window.
func TestCallers(t *testing.T) {
	t.Parallel()
	svc, _ := services.Find("sum")
	backend, err := stack.NewService(svc, "127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- backend.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	proxy := httptest.NewUnstartedServer(reverseProxy(backend.Addr()))
	proxy.Config.Protocols = both()
	proxy.Start()
	t.Cleanup(proxy.Close)

	for protocol, dial := range dialers {
		for name, addr := range map[string]string{"direct": backend.Addr(), "proxied": proxy.Listener.Addr().String()} {
			t.Run(protocol+"/"+name, func(t *testing.T) {
				c := dialFor(t, dial, addr)
				for i := range 4000 {
					if err := c.call(); err != nil {
						t.Fatalf("call %d: %v", i, err)
					}
				}
			})
		}
	}
}

// TestCallersComplain has servers that answer, but not rightly.
func TestCallersComplain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, protocol, want string
		handler              http.HandlerFunc
	}{
		{"result", protocolConnect, "want a result of 3", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"result":4}`))
		}},
		{"status", protocolConnect, "want 200", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}},
		{"result", protocolGRPC, "want 0000000009090000000000000840", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			_, _ = w.Write(grpcRequest)
		}},
		{"status", protocolGRPC, "want 200", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}},
		{"code", protocolGRPC, `grpc-status "14", want 0`, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Grpc-Status", "14")
		}},
	} {
		t.Run(test.protocol+"/"+test.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewUnstartedServer(test.handler)
			server.Config.Protocols = both()
			server.Start()
			t.Cleanup(server.Close)
			err := dialFor(t, dialers[test.protocol], server.Listener.Addr().String()).call()
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("call: got %v, want an error with %q", err, test.want)
			}
		})
	}
}

// TestChunks reads an answer in two chunks, as a streaming proxy may send it.
func TestChunks(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"res`))
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write([]byte(`ult":3}`))
	}))
	t.Cleanup(server.Close)
	c := dialFor(t, dialers[protocolConnect], server.Listener.Addr().String())
	for range 2 {
		if err := c.call(); err != nil {
			t.Fatal(err)
		}
	}
}

func both() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return protocols
}

func dialFor(t testing.TB, dial func(context.Context, string) (caller, error), addr string) caller {
	t.Helper()
	if _, _, err := net.SplitHostPort(addr); err != nil {
		t.Fatal(err)
	}
	c, err := dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	if err := c.expire(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}
