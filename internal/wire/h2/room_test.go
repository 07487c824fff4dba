package h2_test

import (
	"context"
	"net"
	"net/http"
	"testing"

	"golang.org/x/net/http2"

	"holdline/internal/wire"
)

// A client that has as many calls as it may has room for another one as soon as the answer to one of them has come.
func TestRoomAfterAnAnswer(t *testing.T) {
	t.Parallel()
	server := newServer()
	server.MaxStreams = 2
	server.Plain = func(*wire.Request) (*wire.Response, http.Handler) {
		return &wire.Response{Status: http.StatusOK}, nil
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if c, err := ln.Accept(); err == nil {
			_ = server.Serve(context.Background(), c, http.NotFoundHandler(), nil)
		}
	}()
	c := dial(t, ln.Addr().String())
	t.Cleanup(func() { _ = c.Close(); <-ended; _ = ln.Close() })
	open := uint32(1)
	for ; open < 5; open += 2 {
		c.call(open, true)
	}
	for range 20_000 {
		frame, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := frame.(type) {
		case *http2.RSTStreamFrame:
			t.Fatalf("stream %d: reset %v, with one other open", f.StreamID, f.ErrCode)
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				c.call(open, true)
				open += 2
			}
		}
	}
}
