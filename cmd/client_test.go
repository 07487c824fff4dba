package cmd

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	momv1 "holdline/gen/mom/v1"
)

// Nobody waits for ever for what is silent, whichever part of a connection it is silent in.
func TestSilence(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		server string
		dial   func(ctx context.Context, network, addr string) (net.Conn, error)
		hint   string
	}{
		"dial": {"http://gateway.example", func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
		}, "Is a gateway there?"},
		"TLS":    {"https://gateway.example", silentConn, "it is silent"},
		"answer": {"http://gateway.example", silentConn, "it is silent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				started := time.Now()
				var said strings.Builder
				err := (&Services{Remote{Server: test.server, dial: test.dial}}).Run(t.Context(), io.Discard)
				if status := printError(&said, err, nil, false); status != 112 || !strings.Contains(said.String(), test.hint) {
					t.Errorf("got status %d, %q, want 112 and %q", status, said.String(), test.hint)
				}
				if took := time.Since(started); took != 15*time.Second {
					t.Errorf("it took %s, want 15s", took)
				}
			})
		})
	}
}

// silentConn is a connection to what takes all and says nothing.
func silentConn(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	return near, nil
}

// A call may take any time at a gateway that lives.
func TestLongWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		listener := &pipes{made: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(5 * time.Minute)
			w.Header().Set("Content-Type", "application/proto")
		})}
		server.Protocols.SetUnencryptedHTTP2(true)
		go func() { _ = server.Serve(listener) }()
		defer func() { _ = server.Close() }()
		remote := Remote{Server: "http://gateway.example", dial: listener.dial}
		if err := (&Services{remote}).Run(t.Context(), io.Discard); err != nil {
			t.Errorf("got %v, want the answer", err)
		}
	})
}

// pipes is a listener in memory.
type pipes struct {
	made   chan net.Conn
	closed chan struct{}
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	p.made <- far
	return near, nil
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.made:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// All that a command asks goes over one connection.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	var connections, pages atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		page := &momv1.ListTasksResponse{NextPageToken: "more"}
		if pages.Add(1) == 3 {
			page.NextPageToken = ""
		}
		raw, _ := proto.Marshal(page)
		w.Header().Set("Content-Type", "application/proto")
		_, _ = w.Write(raw)
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	if err := (&TaskList{Limit: 1, Operator: Operator{Admin: server.URL}}).Run(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	if n := pages.Load(); n != 3 || connections.Load() != 1 {
		t.Errorf("%d pages over %d connections, want 3 over 1", n, connections.Load())
	}
}
