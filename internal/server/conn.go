package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"holdline/internal/wire/h1"
)

// When we close a connection, we read on until the caller closes it too, or one of these limits is reached.
// Otherwise a caller who is still sending would get a reset, and could lose the answer (RFC 9112, 9.6).
const (
	lingerTime    = 5 * time.Second // in all
	lingerSilence = time.Second     // without a byte from the caller
	lingerBytes   = 8 << 20
)

// conn is a caller's connection. Close ends our half at once. The other half ends when the caller ends it,
// or when lingering has reached a limit.
type conn struct {
	*net.TCPConn
	bytes    net.Conn // reads and writes the connection
	listener *listener
	spare    *time.Timer // ends a connection that was accepted beyond the limit; nil for all others
	admitted bool        // was accepted beyond the limit, and now counts within it; guarded by listener.mu
	streams  atomic.Int64

	reading sync.Mutex // held during a read
	ended   bool       // the caller has ended its half
	closed  atomic.Bool
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.bytes.Read(p)
	c.ended = err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	return c.bytes.Write(p) //nolint:wrapcheck // the error of the connection itself
}

// SyscallConn implements syscall.Conn. When the connection is closed, a Read of the syscall.RawConn ends, as a Read of conn does.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.TCPConn.SyscallConn()
	return rawConn{raw, c}, err
}

type rawConn struct {
	syscall.RawConn
	c *conn
}

// Read implements syscall.RawConn.
func (r rawConn) Read(ready func(fd uintptr) bool) error {
	r.c.reading.Lock()
	defer r.c.reading.Unlock()
	if r.c.closed.Load() {
		return net.ErrClosed
	}
	return r.RawConn.Read(ready) //nolint:wrapcheck // the error of the connection itself
}

// Close implements net.Conn, and does not block.
func (c *conn) Close() error {
	if c.closed.CompareAndSwap(false, true) && !c.listener.linger(c.linger) {
		defer c.listener.release(c)
		return c.TCPConn.Close() //nolint:wrapcheck // the error of the connection itself
	}
	return nil
}

func (c *conn) linger() {
	defer c.listener.release(c) // runs last, when the descriptor is free
	defer func() { _ = c.TCPConn.Close() }()
	_ = c.TCPConn.SetDeadline(time.Unix(1, 0)) // reads and writes that still run end now
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.ended || c.CloseWrite() != nil {
		return
	}
	end, rest := time.Now().Add(lingerTime), make([]byte, 2<<10)
	for read := 0; read < lingerBytes && time.Now().Before(end); {
		_ = c.TCPConn.SetReadDeadline(time.Now().Add(lingerSilence))
		n, err := c.TCPConn.Read(rest)
		if err != nil {
			return
		}
		read += n
	}
}

// cut ends both halves at once.
func (c *conn) cut() { _ = c.TCPConn.Close() }

// reset ends the connection as a broken one. Close is still needed.
func (c *conn) reset() {
	_ = c.SetLinger(0)
	c.cut()
}

// Once a connection is closed, only linger sets its deadlines.

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	return c.TCPConn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	return c.TCPConn.SetReadDeadline(t)
}

// Keys of a request's context: connKey has its *conn, callerKey its *h1.Caller.
type (
	connKey   struct{}
	callerKey struct{}
)

// withConn implements http.Server.ConnContext, for connOf.
func withConn(ctx context.Context, under net.Conn) context.Context {
	if caller, ok := under.(*h1.Caller); ok {
		ctx, under = context.WithValue(ctx, callerKey{}, caller), caller.Conn
	}
	if secure, ok := under.(*tls.Conn); ok {
		under = secure.NetConn()
	}
	return context.WithValue(ctx, connKey{}, under)
}

// contextOf is the context of a connection's calls that net/http does not serve. It has the same values that net/http would put into a context.
func (s *Server) contextOf(c *h1.Caller) context.Context {
	ctx := context.WithValue(context.Background(), http.ServerContextKey, s.http)
	return withConn(context.WithValue(ctx, http.LocalAddrContextKey, c.LocalAddr()), c)
}

// connOf returns the connection of a request; nil if it is not one of ours.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// callerOf returns the caller of a request; nil if net/http has accepted its connection.
func callerOf(ctx context.Context) *h1.Caller {
	c, _ := ctx.Value(callerKey{}).(*h1.Caller)
	return c
}
