package mom

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"holdline/internal/route"
)

const (
	// keepSchemaPause is the time after which we write our schemas to the store again: they
	// expire there, and the store may be emptied.
	keepSchemaPause = time.Hour
	// recallPause is the time between two looks for a schema that nobody knows yet.
	recallPause = 10 * time.Second
	// keepSchemaRetry is the pause after the store has not accepted our schemas.
	keepSchemaRetry = 2 * time.Second
	// maxSnapshot is the size of the largest schema that is kept, in bytes: every Redis accepts a string of this size.
	maxSnapshot = 1 << 19
	// maxShelf is the maximum number of schemas that are remembered here.
	maxShelf = 64
)

// shelfStore is what the shelf needs of the store.
type shelfStore interface {
	// KeepSchema keeps a schema, or the name of one, under a name, longer than a record that names it may live
	// from now on.
	KeepSchema(ctx context.Context, name string, raw []byte) error
	// Schema reads what KeepSchema has kept. ErrNotFound.
	Schema(ctx context.Context, name string) ([]byte, error)
}

// shelf has the schemas with which records were written: our current schemas, and earlier schemas and those of other
// MOMs, which the store keeps under the hash of their bytes. It is safe for concurrent use.
type shelf struct {
	store    shelfStore
	log      *slog.Logger
	ours     *route.Schemas
	services func() []string // that have a route
	again    chan struct{}

	mu     sync.Mutex
	mine   map[string]snapshot // our current schemas, by service
	others map[string]*route.Schemas
}

// snapshot is a schema as it is kept.
type snapshot struct {
	of   *route.Schemas
	name string // empty: there is no schema to keep
	raw  []byte
	big  bool // the schema is too large to be kept, and this was logged
}

func newShelf(store shelfStore, ours *route.Schemas, services func() []string, log *slog.Logger) *shelf {
	return &shelf{
		store: store, log: log, ours: ours, services: services,
		again: make(chan struct{}, 1), mine: map[string]snapshot{}, others: map[string]*route.Schemas{},
	}
}

// snapshot returns the snapshot of our schema of a service.
func (s *shelf) snapshot(service string) snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.ours.Of(service)
	known, ok := s.mine[service]
	if ok && known.of == of {
		return known
	}
	raw, err := of.Snapshot(service)
	made := snapshot{of: of, big: len(raw) > maxSnapshot}
	switch {
	case err != nil:
		s.log.Error("schema cannot be kept", "service", service, "error", err)
	case made.big && !known.big:
		s.log.Warn("schema too large to be kept beside its tasks: answers cannot be read as JSON once it changes", "service", service, "bytes", len(raw))
	case !made.big:
		made.raw = raw
	}
	if len(made.raw) > 0 {
		made.name = digest(made.raw)
	}
	s.mine[service] = made
	s.remember(made.name, of)
	return made
}

// remember keeps the schema of a name. If there are too many schemas, it drops all but ours: the store has the others. mu is held.
func (s *shelf) remember(name string, of *route.Schemas) {
	if len(s.others) >= maxShelf {
		clear(s.others)
		for _, own := range s.mine {
			if own.name != "" {
				s.others[own.name] = own.of
			}
		}
	}
	if name != "" {
		s.others[name] = of
	}
}

// name is the name of our schema of a service; empty if there is no schema to keep.
func (s *shelf) name(service string) string { return s.snapshot(service).name }

// find returns a schema that a record names. ErrNotFound.
func (s *shelf) find(ctx context.Context, name string) (*route.Schemas, error) {
	s.mu.Lock()
	found := s.others[name]
	s.mu.Unlock()
	if found != nil {
		return found, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	raw, err := s.store.Schema(ctx, name)
	if err != nil {
		return nil, err
	}
	if found, err = route.OpenSnapshot(raw); err != nil {
		return nil, errors.Join(ErrNotFound, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remember(name, found)
	return found, nil
}

// keepAgain has Run write our schemas to the store again: the store may have lost them, or there are new ones.
func (s *shelf) keepAgain() { nudge(s.again) }

// Run keeps our schemas in the store until ctx ends. If a service has not given us its schema yet, Run looks for the schema in the
// store.
func (s *shelf) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		next := keepSchemaPause
		for _, service := range s.services() {
			err := s.keep(ctx, service)
			if errors.Is(err, ErrNotFound) {
				next = min(next, recallPause)
			} else if err != nil {
				s.log.Debug("schema not kept", "service", service, "error", err)
				next = keepSchemaRetry
				break // the store is away or full
			}
		}
		pause(ctx, next, s.again)
	}
	return nil
}

// keep writes the schema of a service to the store. If we do not know the schema, keep reads it from the store, where another MOM, or we before our last
// start, may have kept it: ErrNotFound if the store does not have it either.
func (s *shelf) keep(ctx context.Context, service string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	own := s.snapshot(service)
	if own.name != "" {
		err := s.store.KeepSchema(ctx, own.name, own.raw)
		if err == nil && !s.ours.Given(service) {
			err = s.store.KeepSchema(ctx, latestOf(service), []byte(own.name))
		}
		return err
	}
	if !s.ours.Lacks(service) {
		return nil // the schema is too large, or the route says that there is none
	}
	name, err := s.store.Schema(ctx, latestOf(service))
	if err != nil {
		return err
	}
	found, err := s.find(ctx, string(name))
	if err == nil && s.ours.Learn(service, found) {
		s.log.Info("schema learned from the store", "service", service)
	}
	return err
}

// latestOf is the key under which the store has the name of the latest schema that came from a service.
func latestOf(service string) string { return "latest:" + service }
