package redisstore

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"holdline/internal/wire"
	"holdline/mom"
)

const (
	multiplex = -1 // tells rueidis: one connection to a server carries all commands
	ringScale = 9  // 2^9 commands may be under way on it: far more than there are places
)

// link is the connection to Redis: the client, its open connections, and places for the commands
// under way. The client of a cluster or of sentinels exists only after these were reached.
type link struct {
	client atomic.Pointer[rueidis.Client]
	why    atomic.Pointer[error] // why there is no client yet
	conns  sync.Map              // *conn → nil: the open ones
	cut    atomic.Int64          // when cutOff last closed all connections, in ns

	shares shares

	stop   context.CancelFunc
	closed <-chan struct{} // by stop
	once   sync.Once
	dialer sync.WaitGroup
}

func newLink(option rueidis.ClientOption, commandTimeout time.Duration) (*link, error) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{shares: newShares(commandTimeout), stop: cancel, closed: ctx.Done()}
	option.DialCtxFn = l.watched(option.DialCtxFn, option.ConnWriteTimeout)
	// NewClient dials once. If that fails, the client of a single server exists all the same, and
	// dials again with each call. A client of a cluster or of sentinels does not exist then.
	client, err := rueidis.NewClient(option)
	switch {
	case client != nil:
		l.client.Store(&client)
	case option.ForceSingleClient:
		cancel()
		return nil, err
	default:
		l.why.Store(&err)
		l.dialer.Go(func() { l.dial(ctx, option) })
	}
	return l, nil
}

// cutPause is the minimum time between two cuts. If a server goes on refusing, it does not help
// to connect more often: Check reports that server.
const cutPause = 2 * time.Second

// cutOff closes all connections. New connections reach the server that has the address now, and
// use the present password.
func (l *link) cutOff() {
	now, last := time.Now().UnixNano(), l.cut.Load()
	if now-last < int64(cutPause) || !l.cut.CompareAndSwap(last, now) {
		return
	}
	l.conns.Range(func(c, _ any) bool {
		_ = c.(*conn).Close()
		return true
	})
}

// dial makes the client of a cluster or of sentinels. It tries until it succeeds or ctx ends.
func (l *link) dial(ctx context.Context, option rueidis.ClientOption) {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		client, err := rueidis.NewClient(option)
		if err == nil {
			l.client.Store(&client)
			return
		}
		l.why.Store(&err)
	}
}

func (l *link) close() {
	l.once.Do(func() {
		l.stop()
		l.dialer.Wait()
		if client := l.client.Load(); client != nil {
			(*client).Close()
		}
	})
}

// get returns the client, or the error that mom.Store promises while there is none.
func (l *link) get() (rueidis.Client, error) {
	client := l.client.Load()
	if client == nil {
		return nil, fmt.Errorf("%w: %w: redis: not connected yet: %w", mom.ErrUnavailable, mom.ErrNotSent, *l.why.Load())
	}
	return *client, nil
}

// conn is a connection to Redis that closes itself when the server does not answer. rueidis would
// notice only at its next ping, seconds later, and until then go on writing commands.
type conn struct {
	net.Conn
	link *link

	silence time.Duration // if the server has not answered after this time, it is given up
	opened  time.Time
	asked   atomic.Int64 // the time of the first write after the last read, in ns since opened; 0: there was none
	timer   *time.Timer  // checks asked; starting and stopping it with each command would cost more than an unnecessary check
	silent  atomic.Bool  // the server was given up
	closed  atomic.Bool

	greeted atomic.Bool // rueidis has greeted the server; our commands are sent only after that
}

type dialFunc = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)

// watched returns a function that dials by dial, or over TCP when dial is nil, and returns a conn.
func (l *link) watched(dial dialFunc, silence time.Duration) dialFunc {
	if dial == nil {
		dial = dialTCP
	}
	return func(ctx context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
		raw, err := dial(ctx, address, dialer, config)
		if err != nil {
			return nil, &greetingError{err.Error()}
		}
		c := &conn{Conn: wire.NonBlocking(raw), link: l, silence: silence, opened: time.Now()}
		c.timer = time.AfterFunc(time.Hour, c.look)
		c.timer.Reset(silence) // only now, since look reads c.timer
		l.conns.Store(c, nil)
		return c, nil
	}
}

func dialTCP(ctx context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
	if config == nil {
		return dialer.DialContext(ctx, "tcp", address)
	}
	return dialTLS(ctx, address, dialer, config)
}

// dialTLS does what tls.Dialer does, on a connection that does not block.
func dialTLS(ctx context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
	if dialer.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, dialer.Timeout)
		defer cancel()
	}
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	secure := tls.Client(wire.NonBlocking(raw), config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return secure, nil
}

// look gives up the server if it has owed an answer for too long. Otherwise it sets the timer to the earliest time at which that may be so.
func (c *conn) look() {
	left := c.silence
	if asked := c.asked.Load(); asked != 0 {
		left -= time.Since(c.opened) - time.Duration(asked)
	}
	if left <= 0 {
		c.silent.Store(true)
		_ = c.Close()
		return
	}
	c.timer.Reset(left)
	if c.closed.Load() {
		c.timer.Stop()
	}
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if c.asked.Load() == 0 {
		c.asked.Store(int64(time.Since(c.opened)))
	}
	n, err := c.Conn.Write(b)
	return n, c.explain(err)
}

// Read implements net.Conn. Any byte shows that the server is alive, even if other answers are still due. The time for these
// answers begins with the next command or ping.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.asked.Store(0)
	}
	return n, c.explain(err)
}

// SetDeadline implements net.Conn. rueidis sets a deadline for its greeting, and removes it
// before it sends commands.
func (c *conn) SetDeadline(t time.Time) error {
	if t.IsZero() {
		c.greeted.Store(true)
	}
	return c.Conn.SetDeadline(t)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.closed.Store(true)
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

// sharesOf returns the places for commands of a shard. In a cluster each shard has its own, so
// that commands to a silent node do not take the places of other nodes.
func (s *Store) sharesOf(keys *shardKeys) shares {
	if s.cfg.Cluster {
		return keys.shares
	}
	return s.link.shares
}

// query waits for a place, calls fn with the client, and returns what fn returns. If ctx or the
// time for it ends before there is a place, fn is not called. If it ends later, query returns,
// but fn goes on, since Redis will answer anyway, and keeps its place until Redis has answered or
// the connection is given up. So fn may still run when query has returned: it returns what it
// finds, and writes no variable of its caller.
func query[T any](ctx context.Context, s *Store, share *places, fn func(context.Context, rueidis.Client) (T, error)) (found T, err error) {
	if err := ctx.Err(); err != nil {
		return found, notSent(err)
	}
	client, err := s.link.get()
	if err != nil {
		return found, err
	}
	ctx, cancel := share.bounded(ctx)
	defer cancel()
	if err := share.take(ctx); err != nil {
		return found, notSent(fmt.Errorf("no place among the commands under way: %w", err))
	}
	type answer struct {
		found T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		defer share.give()
		// If the context could end, rueidis would return then, while the answer is still due.
		// With this one it returns when the answer is there.
		found, err := fn(context.WithoutCancel(ctx), client)
		done <- answer{found, err}
	}()
	select {
	case a := <-done:
		return a.found, a.err
	case <-ctx.Done():
		return found, fmt.Errorf("%w: redis: %w", mom.ErrUnavailable, ctx.Err())
	}
}

// command is query for an fn that returns only an error.
func (s *Store) command(ctx context.Context, share *places, fn func(context.Context, rueidis.Client) error) error {
	_, err := query(ctx, s, share, func(ctx context.Context, client rueidis.Client) (struct{}, error) {
		return struct{}{}, fn(ctx, client)
	})
	return err
}
