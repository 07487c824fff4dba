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

	"holdline/mom"
)

const (
	multiplex = -1 // to rueidis: one connection to a server carries all commands
	ringScale = 9  // 2^9 commands may be under way on it: far more than there are places
)

// link is the way to Redis: a client that exists once the server was there, its connections,
// and places for the commands under way.
type link struct {
	client atomic.Pointer[rueidis.Client]
	why    atomic.Pointer[error] // there is no client yet
	conns  sync.Map              // *conn → nil: the open ones
	cut    atomic.Int64          // when they were cut last, in ns

	shares shares

	stop   context.CancelFunc
	once   sync.Once
	dialer sync.WaitGroup
}

func newLink(option rueidis.ClientOption) (*link, error) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{shares: newShares(), stop: cancel}
	option.DialCtxFn = l.watched(option.DialCtxFn, option.ConnWriteTimeout)
	// Dials once. A single client lives on when that fails and dials again
	// with each call; one of a cluster or of sentinels must be made anew.
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

// cutPause is the least time between two cuts. A server that goes on refusing is found out by
// Check; to connect again and again helps nobody.
const cutPause = 2 * time.Second

// cutOff ends all connections, so that new ones find the server that has the address now, with
// the password of now.
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

// dial makes the client of a cluster or of sentinels, however long that takes.
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

// get returns the client, or what mom.Store promises when there is none.
func (l *link) get() (rueidis.Client, error) {
	client := l.client.Load()
	if client == nil {
		return nil, fmt.Errorf("%w: %w: redis: not connected yet: %w", mom.ErrUnavailable, mom.ErrNotSent, *l.why.Load())
	}
	return *client, nil
}

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

// sharesOf returns the places of a shard. In a cluster it has its own: those of a node that is
// silent hold up no other node's.
func (s *Store) sharesOf(keys *shardKeys) shares {
	if s.cfg.Cluster {
		return keys.shares
	}
	return s.link.shares
}

// query calls fn with the client once there is a place, and waits for its end as long as ctx and
// the time of a command allow. Whoever leaves before there is a place takes the command along;
// after that it goes on, since Redis will answer it anyway, and keeps its place until Redis has
// or the connection is given up. So fn may still run when query has returned: what it finds out
// it returns, and it writes no variable of its caller.
func query[T any](ctx context.Context, s *Store, share *places, fn func(context.Context, rueidis.Client) (T, error)) (found T, err error) {
	if err := ctx.Err(); err != nil {
		return found, notSent(err)
	}
	client, err := s.link.get()
	if err != nil {
		return found, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CommandTimeout)
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
		// rueidis returns when a context ends, while its answer is still due. Without one it
		// returns when the answer is there.
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

// command is query for what answers nothing but that it was done.
func (s *Store) command(ctx context.Context, share *places, fn func(context.Context, rueidis.Client) error) error {
	_, err := query(ctx, s, share, func(ctx context.Context, client rueidis.Client) (struct{}, error) {
		return struct{}{}, fn(ctx, client)
	})
	return err
}
