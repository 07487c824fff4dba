package redisstore

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"
)

// conn is a connection to Redis that ends itself when the server does not answer. rueidis would
// notice with its next ping, seconds later, and until then write everything after it.
type conn struct {
	net.Conn
	link *link

	silence time.Duration // after which a server that was asked is given up
	asked   atomic.Bool   // something was written after the last read
	timer   *time.Timer   // runs while asked
	silent  atomic.Bool   // the server was given up

	greeted atomic.Bool // rueidis has greeted the server: only then it sends commands of ours
}

type dialFunc = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)

// watched dials by dial, or over TCP when that is nil, and watches over the connections.
func (l *link) watched(dial dialFunc, silence time.Duration) dialFunc {
	if dial == nil {
		dial = dialTCP
	}
	return func(ctx context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
		raw, err := dial(ctx, address, dialer, config)
		if err != nil {
			return nil, &greetingError{err.Error()}
		}
		c := &conn{Conn: raw, link: l, silence: silence}
		c.timer = time.AfterFunc(silence, c.giveUp)
		c.timer.Stop()
		l.conns.Store(c, nil)
		return c, nil
	}
}

func dialTCP(ctx context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
	if config == nil {
		return dialer.DialContext(ctx, "tcp", address)
	}
	return (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, "tcp", address)
}

func (c *conn) giveUp() {
	c.silent.Store(true)
	_ = c.Close()
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if !c.asked.Swap(true) {
		c.timer.Reset(c.silence)
	}
	n, err := c.Conn.Write(b)
	return n, c.explain(err)
}

// Read implements net.Conn. Any byte is a sign of life. Other answers may be due then; the
// next command, or ping, asks again.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.asked.Swap(false) {
		c.timer.Stop()
	}
	return n, c.explain(err)
}

// SetDeadline implements net.Conn. rueidis bounds its greeting, and lifts the bound before it
// sends commands.
func (c *conn) SetDeadline(t time.Time) error {
	if t.IsZero() {
		c.greeted.Store(true)
	}
	return c.Conn.SetDeadline(t)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.timer.Stop()
	c.link.conns.Delete(c)
	return c.Conn.Close()
}

func (c *conn) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case c.silent.Load():
		err = errSilent
	}
	if !c.greeted.Load() {
		return &greetingError{err.Error()}
	}
	return err
}
