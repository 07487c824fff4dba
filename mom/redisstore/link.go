package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"holdline/mom"
)

const (
	multiplex = 1 // 2^1 connections carry all calls but the blocking ones
	ringScale = 9 // 2^9 calls may be under way on each

	// rueidis has no deadline for a place in a full ring, so it must not get
	// full: half of all places are ours to give.
	maxUnderWay = 1 << (multiplex + ringScale - 1)
)

// link is the way to Redis: a client that exists once the server was there,
// and places for the calls under way.
type link struct {
	client atomic.Pointer[rueidis.Client]
	why    atomic.Pointer[error] // there is no client yet
	places chan struct{}
	// A call that was given up keeps its place for so long: by then the server
	// has answered, or rueidis has given up the connection.
	silence time.Duration

	stop   context.CancelFunc
	once   sync.Once
	dialer sync.WaitGroup
}

func newLink(option rueidis.ClientOption) (*link, error) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{
		places:  make(chan struct{}, maxUnderWay),
		silence: option.Dialer.KeepAlive + option.ConnWriteTimeout + time.Second,
		stop:    cancel,
	}
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

// use calls fn with the client, a deadline and a place. A caller that leaves
// does not cut the call short: its place would be lost, and it ends within the
// deadline anyway.
func (s *Store) use(ctx context.Context, fn func(context.Context, rueidis.Client) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w: %w", mom.ErrUnavailable, mom.ErrNotSent, err)
	}
	client, err := s.link.get()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(s.cfg.CommandTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	select {
	case s.link.places <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w: redis: too many calls under way: %w", mom.ErrUnavailable, mom.ErrNotSent, ctx.Err())
	}
	err = fn(ctx, client)
	if ctx.Err() != nil {
		time.AfterFunc(s.link.silence, func() { <-s.link.places })
	} else {
		<-s.link.places
	}
	return err
}

// redisError maps what Redis or the way to it says to what mom.Store promises.
// A nil reply is not an error here.
func redisError(err error) error {
	if err == nil || rueidis.IsRedisNil(err) {
		return nil
	}
	reply, ok := rueidis.IsRedisErr(err)
	if !ok {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return fmt.Errorf("%w: %w: redis: %w", mom.ErrUnavailable, mom.ErrNotSent, err)
		}
		return fmt.Errorf("%w: redis: %w", mom.ErrUnavailable, err)
	}
	switch code, _, _ := strings.Cut(reply.Error(), " "); code {
	case "HLVERSION":
		return fmt.Errorf("%w: %w", ErrRecordVersion, err)
	case "OOM":
		return fmt.Errorf("%w: redis is at its maxmemory", mom.ErrQueueFull)
	case "LOADING", "MASTERDOWN", "READONLY", "MISCONF", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS",
		"UNBLOCKED": // its master is a replica now
		return fmt.Errorf("%w: %w: redis: %w", mom.ErrUnavailable, mom.ErrNotSent, err)
	default:
		return fmt.Errorf("redis: %w", err)
	}
}

// Which form of the scripts a server understands.
const (
	flavourUnknown int32 = iota
	flavourPlain
	flavourFlagged
)

// run runs a script on a shard. The arguments follow the shard's prefix.
func (s *Store) run(ctx context.Context, sc *script, keys *shardKeys, args ...string) (rueidis.RedisMessage, error) {
	var reply rueidis.RedisMessage
	err := s.use(ctx, func(ctx context.Context, client rueidis.Client) error {
		if err := s.learnFlavour(ctx, client); err != nil {
			return err
		}
		lua := sc.plain
		if s.flavour.Load() == flavourFlagged {
			lua = sc.flagged
		}
		var err error
		reply, err = lua.Exec(ctx, client, keys.all, append([]string{keys.base}, args...)).ToMessage()
		return redisError(err)
	})
	if err != nil {
		return reply, fmt.Errorf("%s: %w", sc.name, err)
	}
	return reply, nil
}

// status runs a script that answers with one word.
func (s *Store) status(ctx context.Context, sc *script, keys *shardKeys, args ...string) (string, error) {
	reply, err := s.run(ctx, sc, keys, args...)
	if err != nil {
		return "", err
	}
	word, err := reply.ToString()
	if err != nil {
		return "", fmt.Errorf("%s: %w", sc.name, err)
	}
	return word, nil
}

// learnFlavour asks the server once what it is; Check asks again.
func (s *Store) learnFlavour(ctx context.Context, client rueidis.Client) error {
	if s.flavour.Load() != flavourUnknown {
		return nil
	}
	info, err := serverInfo(ctx, client)
	if err != nil {
		return err
	}
	s.setFlavour(info)
	return nil
}

func (s *Store) setFlavour(info map[string]string) {
	flavour := flavourPlain
	if major(info["redis_version"]) >= 7 {
		flavour = flavourFlagged
	}
	s.flavour.Store(flavour)
}
