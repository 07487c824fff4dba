package cmd

import (
	"context"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
)

// What resets a connection, closes it or stays silent has cancelled nothing, and says nothing of a task: no gateway has answered.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	reset := listen(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1)) // closed with more to read, it is reset
		_ = c.Close()
	})
	closed := listen(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1<<10))
		_ = c.(*net.TCPConn).CloseWrite()
	})
	silent := listen(t, func(net.Conn) {})
	for name, run := range map[string]func(ctx context.Context, server string) error{
		"call": func(ctx context.Context, server string) error {
			return (&Call{Method: "a.v1.A/B", Data: "{}", Remote: Remote{Server: server}}).Run(ctx, io.Discard)
		},
		"services": func(ctx context.Context, server string) error {
			return (&Services{Remote{Server: server}}).Run(ctx, io.Discard)
		},
		"task get": func(ctx context.Context, server string) error {
			return (&TaskGet{OneTask{ID: "01", Remote: Remote{Server: server}}}).Run(ctx, io.Discard)
		},
		"task wait": func(ctx context.Context, server string) error {
			return (&TaskWait{OneTask: OneTask{ID: "01", Remote: Remote{Server: server}}}).Run(ctx, io.Discard)
		},
		"task list": func(ctx context.Context, server string) error {
			return (&TaskList{Limit: 1, Operator: Operator{Admin: server}}).Run(ctx, io.Discard)
		},
		"queue list": func(ctx context.Context, server string) error {
			return (&QueueList{Operator{Admin: server}}).Run(ctx, io.Discard)
		},
		"queue top": func(ctx context.Context, server string) error {
			return (&QueueTop{Operator: Operator{Admin: server}}).Run(ctx, io.Discard)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for address, hint := range map[string]string{reset: "The connection ended", closed: "The connection ended", silent: "it is silent"} {
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if address == silent {
					if name == "queue top" {
						continue // it takes the end of its context for its own
					}
					ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
				}
				var said strings.Builder
				status := printError(&said, run(ctx, "http://"+address), nil, false)
				cancel()
				if status != int(connect.CodeUnavailable)<<3 || !strings.Contains(said.String(), hint) {
					t.Errorf("got status %d, %q, want 112 and %q", status, said.String(), hint)
				}
			}
		})
	}
}

// A call whose connection broke may have been executed. JSON says so too, where unavailable alone would say the contrary.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	remote := Remote{Server: "http://gateway.example"}
	broke := connect.NewError(connect.CodeCanceled, "read: connection reset by peer").WithCause(syscall.ECONNRESET)
	for _, asJSON := range []bool{false, true} {
		var said strings.Builder
		status := printError(&said, (&Call{Remote: remote}).unknown(remote.fail(broke)), nil, asJSON)
		if status != 112 || !strings.Contains(said.String(), "whether the call was executed is not known") {
			t.Errorf("got status %d, %q, want 112, and that the outcome is not known", status, said.String())
		}
	}
}

// listen stands in for what is no gateway, and returns its address. What serve leaves open is closed at the end.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }()
			serve(c)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}
