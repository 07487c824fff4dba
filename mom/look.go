package mom

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// maxLooks is how many numbers of shards are read at once.
const maxLooks = 8

// look has the results of one look at the store.
type look struct {
	mu       sync.Mutex
	said     map[string]known
	unlisted map[string]int64 // epochs that the store does not list, by service
	errs     []error
}

// look reads the numbers of shards that are new or in doubt, for all services in the store. If the number of one
// service cannot be read, the other services are read all the same.
func (s *shards) look(ctx context.Context) error {
	listed, err := s.store.Services(ctx)
	found := &look{said: map[string]known{}, unlisted: map[string]int64{}, errs: []error{err}}
	names := slices.Concat(s.routes.services(), slices.Collect(maps.Keys(listed)))
	slices.Sort(names)
	var asking errgroup.Group
	asking.SetLimit(maxLooks)
	for _, service := range slices.Compact(names) {
		asking.Go(func() error {
			found.ask(ctx, s, service, listed)
			return nil
		})
	}
	_ = asking.Wait() // the look has the errors
	var met []string
	for service := range found.said {
		if s.alarm(service) == nil {
			met = append(met, service)
		}
	}
	s.learn(found.said)
	for _, service := range met {
		if depth, err := s.depth(ctx, service); err == nil && !depth.Empty() {
			s.alarm(service).noRoute(time.Now())
		}
	}
	if listed != nil {
		bounded, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		found.errs = append(found.errs, s.store.Register(bounded, found.unlisted))
	}
	return errors.Join(found.errs...)
}

// ask reads the number of shards of a service, unless it is known.
func (l *look) ask(ctx context.Context, s *shards, service string, listed map[string]int64) {
	s.mu.RLock()
	is, ok := s.known[service]
	doubted := s.doubted
	s.mu.RUnlock()
	epoch, there := listed[service]
	var err error
	fresh := !ok || is.doubted != doubted || there && epoch != is.Epoch
	if fresh {
		is.doubted = doubted
		is.Numbering, err = s.ask(ctx, service)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, ErrNotFound): // the store still lists the service, but has lost its number
	case err != nil:
		l.errs = append(l.errs, err)
	default:
		if fresh {
			l.said[service] = is
		}
		if !there || epoch != is.Epoch {
			l.unlisted[service] = is.Epoch
		}
	}
}
