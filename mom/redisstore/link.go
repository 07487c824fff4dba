package redisstore

import (
	"context"
	"fmt"
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
