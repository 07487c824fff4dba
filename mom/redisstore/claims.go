package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/redis/rueidis"

	"holdline/mom"
)

// checkName finds out whether this is the store that it was. The name goes when everything goes,
// and another Redis has another name.
func (s *Store) checkName(ctx context.Context) error {
	var name string
	err := s.use(ctx, s.link.shares.upkeep, func(ctx context.Context, client rueidis.Client) error {
		reply, err := s.exec(ctx, client, identifyScript, []string{storeNameKey(s.cfg.Prefix)}, []string{rand.Text()})
		if err != nil {
			return err
		}
		name, err = reply.ToString()
		return err
	})
	if err != nil {
		if s.cfg.Cluster && s.claims.named() && errors.Is(err, mom.ErrUnavailable) {
			return nil // the node that has the name is away; the others need not wait for it
		}
		return err
	}
	if was := s.claims.rename(name); was != "" && was != name {
		return mom.ErrStoreLost
	}
	return nil
}

// claims are the numbers of shards that are known to be in the store.
type claims struct {
	mu     sync.Mutex
	name   string // of the store
	shards map[string]int
}

// rename takes the store's name, and returns the one before.
func (c *claims) rename(name string) (was string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, c.name = c.name, name
	if was != name {
		c.shards = nil
	}
	return was
}

func (c *claims) named() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.name != ""
}

func (c *claims) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shards = nil
}

func (c *claims) has(service string, n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shards[service] == n
}

func (c *claims) add(service string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shards == nil {
		c.shards = make(map[string]int)
	}
	c.shards[service] = n
}

// claimShards makes n the number of shards of a service, or fails when it has
// another. Reads first, so that it works on a Redis at maxmemory.
func (s *Store) claimShards(ctx context.Context, service string, n int) error {
	if s.claims.has(service, n) {
		return nil
	}
	key, want := shardCountKey(s.cfg.Prefix, service), strconv.Itoa(n)
	var have string
	err := s.use(ctx, s.link.shares.upkeep, func(ctx context.Context, client rueidis.Client) error {
		get := func() (err error) {
			have, err = client.Do(ctx, client.B().Get().Key(key).Build()).ToString()
			return s.judge(err)
		}
		if err := get(); err != nil || have != "" {
			return err
		}
		if err := s.judge(client.Do(ctx, client.B().Set().Key(key).Value(want).Nx().Build()).Error()); err != nil {
			return err
		}
		return get()
	})
	if err != nil {
		return err
	}
	if have != want {
		return fmt.Errorf("%s has %s shards in this redis, not %s: tasks of another number would not be found", service, have, want)
	}
	s.claims.add(service, n)
	return nil
}
