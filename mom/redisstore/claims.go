package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"

	"holdline/mom"
)

// checkName finds out whether this is the store that it was. The name goes when everything goes,
// and another Redis has another name.
func (s *Store) checkName(ctx context.Context) error {
	name, err := s.alone(ctx, identifyScript, storeNameKey(s.cfg.Prefix), args{"new_name": rand.Text()})
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

// claims know which store this is.
type claims struct {
	mu   sync.Mutex
	name string
}

// rename takes the store's name, and returns the one before.
func (c *claims) rename(name string) (was string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, c.name = c.name, name
	return was
}

func (c *claims) named() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.name != ""
}
