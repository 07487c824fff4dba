package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"holdline/internal/server"
	"holdline/internal/server/servertest"
)

// endless is a body that goes on until it is closed.
type endless struct{ closed chan struct{} }

func (e endless) Read(p []byte) (int, error) {
	select {
	case <-e.closed:
		return 0, io.EOF
	default:
		return len(p), nil
	}
}

// stalling is a service that reads nothing of the requests that ask for it, until
// the test ends.
func stalling(t *testing.T) (handler http.HandlerFunc, stalled <-chan struct{}) {
	t.Helper()
	release, all := make(chan struct{}), make(chan struct{}, 1000)
	t.Cleanup(func() { close(release) })
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Stall") != "" {
			all <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		_, _ = io.Copy(w, r.Body)
	}, all
}

// Callers who upload what the service does not read keep nobody else's call.
func TestStalledUploads(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path   string
		body   func(end chan struct{}) io.Reader
		number int
	}{
		"streams":               {streaming, func(end chan struct{}) io.Reader { return endless{end} }, 3},
		"one stream":            {streaming, func(end chan struct{}) io.Reader { return endless{end} }, 1},
		"large unary messages":  {repeatable, func(chan struct{}) io.Reader { return strings.NewReader(strings.Repeat("x", 3<<20)) }, 3},
		"kept unary messages":   {repeatable, func(chan struct{}) io.Reader { return strings.NewReader(strings.Repeat("x", 1<<20)) }, 3},
		"middling ones":         {repeatable, func(chan struct{}) io.Reader { return strings.NewReader(strings.Repeat("x", 60<<10)) }, 30},
		"many small ones":       {repeatable, func(chan struct{}) io.Reader { return strings.NewReader(strings.Repeat("x", 12<<10)) }, 150},
		"more than fit a frame": {repeatable, func(chan struct{}) io.Reader { return strings.NewReader(strings.Repeat("x", 17<<10)) }, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handler, stalled := stalling(t)
			url := behind(t, handler)
			ended := make(chan struct{})
			var uploads sync.WaitGroup
			t.Cleanup(uploads.Wait)
			t.Cleanup(func() { close(ended) })
			for i := range c.number {
				caller, req := client(t, 2), request(t, url+c.path, c.body(ended), "Stall: 1")
				caller.Timeout = 0 // it stays longer than those beside it would
				refused := make(chan error, 1)
				uploads.Go(func() {
					res, err := caller.Do(req)
					if err == nil {
						_ = res.Body.Close()
					}
					refused <- err
				})
				select {
				case <-stalled:
				case err := <-refused:
					t.Fatalf("upload %d ended: %v", i, err)
				}
			}
			for i := range 5 {
				res, err := client(t, 2).Do(request(t, url+c.path, strings.NewReader("ten bytes.")))
				if err != nil {
					t.Fatalf("call %d beside stalled uploads: %v", i, err)
				}
				body, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if string(body) != "ten bytes." || err != nil {
					t.Fatalf("call %d beside stalled uploads: got %q, %v", i, body, err)
				}
			}
		})
	}
}

// What this costs in connections to the service: one for small calls, and one for
// each connection of a caller that uploads.
func TestUploadConnections(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1000)
	release := make(chan struct{})
	url := behind(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") {
			return // asked on a connection of its own
		}
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		seen <- r.RemoteAddr
		if r.Header.Get("Stall") != "" {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	})
	t.Cleanup(func() { close(release) })
	connections := map[string]bool{}
	call := func(caller *http.Client, body io.Reader, headers ...string) {
		res, err := caller.Do(request(t, url+streaming, body, headers...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		connections[<-seen] = true
	}
	one := client(t, 2)
	for range 20 {
		call(one, waits{t.Context()}, "Stall: 1")
	}
	if len(connections) != 1 {
		t.Errorf("20 uploads of one caller take %d connections, want 1", len(connections))
	}
	for range 9 {
		call(client(t, 2), waits{t.Context()}, "Stall: 1")
	}
	if len(connections) != 10 {
		t.Errorf("with 9 callers more they take %d connections, want 10", len(connections))
	}
	for range 20 {
		call(client(t, 2), http.NoBody, "Stall: 1")
	}
	if len(connections) != 11 {
		t.Errorf("with 20 watchers beside them they take %d connections, want 11", len(connections))
	}
}

// A service that allows few streams on a connection gets more connections: nobody
// waits until another's stream ends.
func TestFewStreamsAllowed(t *testing.T) {
	t.Parallel()
	for _, few := range []int{1, 2} {
		t.Run(fmt.Sprint(few), func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			addr := serveStreams(t, few, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
				if r.Header.Get("Stall") != "" {
					select {
					case <-release:
					case <-r.Context().Done():
					}
				}
			})
			url := front(t, addr)
			t.Cleanup(func() { close(release) })
			for i := range 20 { // watchers, who stay
				body := io.Reader(http.NoBody)
				if i%2 == 0 {
					body = io.MultiReader(strings.NewReader("watch")) // its length is unknown
				}
				res, err := client(t, 2).Do(request(t, url+streaming, body, "Stall: 1"))
				if err != nil {
					t.Fatalf("watcher %d: %v", i, err)
				}
				t.Cleanup(func() { _ = res.Body.Close() })
			}
			for i := range 5 {
				res, err := client(t, 2).Do(request(t, url+repeatable, strings.NewReader("{}")))
				if err != nil {
					t.Fatalf("call %d beside the watchers: %v", i, err)
				}
				if res.StatusCode != http.StatusOK {
					t.Errorf("call %d beside the watchers: got %s, want 200", i, res.Status)
				}
				_ = res.Body.Close()
			}
		})
	}
}

// serveStreams is serve for a server that allows so many streams on a connection.
func serveStreams(tb testing.TB, streams int, handler http.HandlerFunc) (addr string) {
	tb.Helper()
	addr, _ = servertest.Run(tb, server.Config{Handler: handler, Limits: server.Limits{Streams: streams}})
	return addr
}
