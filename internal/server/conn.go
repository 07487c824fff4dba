package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A connection that we close is read until its caller closes it too, because a
// caller who is still sending would get a reset, and lose the answer with it
// (RFC 9112, section 9.6): this long and this much at most, and no longer than this
// in silence.
const (
	lingerTime    = 5 * time.Second
	lingerSilence = time.Second
	lingerBytes   = 8 << 20
)

// conn is a caller's connection. Closing it ends our half at once, and the other
// once the caller has ended it.
type conn struct {
	*net.TCPConn
	listener *listener
	spare    *time.Timer // ends a connection beyond the limit; nil within it
	admitted bool        // it was beyond the limit; listener.mu guards it
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
	n, err := c.TCPConn.Read(p)
	c.ended = err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	return n, err
}

// Close implements net.Conn, and does not block.
func (c *conn) Close() error {
	if c.closed.CompareAndSwap(false, true) && !c.listener.linger(c.linger) {
		defer c.listener.release(c)
		return c.TCPConn.Close() //nolint:wrapcheck // it is the connection's
	}
	return nil
}

func (c *conn) linger() {
	defer c.listener.release(c) // once its descriptor is free
	defer func() { _ = c.TCPConn.Close() }()
	_ = c.TCPConn.SetDeadline(time.Unix(1, 0)) // whoever reads or writes yet is not waited for
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

// The deadlines of a closed connection are linger's.

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

type connKey struct{}

// withConn is http.Server's ConnContext.
func withConn(ctx context.Context, under net.Conn) context.Context {
	if secure, ok := under.(*tls.Conn); ok {
		under = secure.NetConn()
	}
	return context.WithValue(ctx, connKey{}, under)
}

// connOf returns the connection of a request.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}
