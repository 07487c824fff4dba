package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"holdline/internal/wire"
)

// Server serves connections over HTTP/2: its calls are requests of an http.Handler. Limits are required. It is safe for
// concurrent use.
type Server struct {
	// MaxStreams is how many calls of a connection may run at once, also those that their caller has given up. More are refused.
	MaxStreams int
	// MaxHeaderBytes is the largest list of headers, as RFC 9113, section 6.5.2, counts it. To a larger one, status 431 is the answer.
	MaxHeaderBytes int
	// HeaderTimeout is how long a client may take for its greeting, and for the frames of one block of headers.
	HeaderTimeout time.Duration
	// IdleTimeout is after how long a connection without calls is closed. One with calls gets a PING instead, when its client has
	// sent nothing for that long, and is cut when there is no answer within PingTimeout.
	IdleTimeout, PingTimeout time.Duration
	// Plain, if not nil, is offered plain calls before their handler.
	Plain func(*wire.Request) (*wire.Response, http.Handler)
	// Full, if not nil, is told the address of a client that has as many calls as it may. It must not block.
	Full func(remote string)
	Log  *slog.Logger // of handlers that panic

	mu      sync.Mutex
	callers map[*caller]struct{}
	leaving bool
}

// What a server bounds by itself.
const (
	// callWindow is how much of a request a client may send before its handler reads, and callerWindow how much of all.
	callWindow, callerWindow = 512 << 10, 2 << 20
	// headerSlack is what a client is told of MaxHeaderBytes beyond it: fields are counted with 32 bytes more, and 10 are usual.
	headerSlack = 320
)

// errGreeting is the error of a connection that does not begin as HTTP/2 does.
var errGreeting = errors.New("http2: the client did not greet")

// Serve serves a connection until it has ended, with handlers whose contexts are made of ctx. said is what was read of it. Handlers may
// run on for a while.
func (s *Server) Serve(ctx context.Context, nc net.Conn, handler http.Handler, said []byte) error {
	if greeting := len(http2.ClientPreface); len(said) < greeting {
		_ = nc.SetReadDeadline(time.Now().Add(s.HeaderTimeout))
		rest := make([]byte, greeting-len(said))
		if _, err := io.ReadFull(nc, rest); err != nil {
			return errGreeting
		}
		said = append(said[:len(said):len(said)], rest...)
	}
	said, greets := bytes.CutPrefix(said, []byte(http2.ClientPreface))
	if !greets {
		return errGreeting
	}
	_ = nc.SetReadDeadline(time.Time{})
	c := &caller{server: s, ctx: ctx, handler: handler, remote: nc.RemoteAddr().String(), heard: time.Now()}
	if secure, ok := nc.(*tls.Conn); ok {
		state := secure.ConnectionState()
		c.secure = &state
	} else {
		c.peeker = wire.NewPeeker(nc)
	}
	c.streamWindow, c.linkWindow, c.maxSize = callWindow, callerWindow, s.MaxHeaderBytes+headerSlack
	c.ahead = said
	c.prepare(nc, c, "", http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(s.MaxStreams)},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: callWindow}, http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.maxSize)})
	c.used = c.heard
	c.mu.Lock()
	c.timer = time.AfterFunc(s.HeaderTimeout, c.watch)
	c.flush()
	c.mu.Unlock()
	s.add(c)
	defer s.remove(c)
	c.read()
	<-c.over
	return c.err
}

func (s *Server) add(c *caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.callers == nil {
		s.callers = map[*caller]struct{}{}
	}
	s.callers[c] = struct{}{}
	if s.leaving {
		c.leave()
	}
}

func (s *Server) remove(c *caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.callers, c)
}

// Shutdown has all connections take no more calls, and end with the last of those they have. It does not wait for that.
func (s *Server) Shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	for c := range s.callers {
		c.leave()
	}
}

// End has a handler get all plain calls that have no answer: those who answer them hear that there is news of their callers, and wait for nothing else.
func (s *Server) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.callers {
		c.mu.Lock()
		for _, f := range c.streams {
			f.signal()
		}
		c.mu.Unlock()
	}
}
