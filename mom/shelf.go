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
	// keepSchemaPause is the time between two times that the store is given our schemas: what
	// it keeps ends after a while, and it may be emptied.
	keepSchemaPause = time.Hour
	// keepSchemaRetry is the pause after a store that has not taken them.
	keepSchemaRetry = 2 * time.Second
	// maxSnapshot is the largest schema that is kept, in bytes: less than any Redis takes.
	maxSnapshot = 1 << 19
	// maxShelf bounds the schemas of others that are remembered.
	maxShelf = 64
)

// shelfStore is what the shelf needs of the store.
type shelfStore interface {
	// KeepSchema keeps a schema under a name, longer than a record that names it may live
	// from now on. The same name has the same bytes.
	KeepSchema(ctx context.Context, name string, raw []byte) error
	// Schema reads what KeepSchema has kept. ErrNotFound.
	Schema(ctx context.Context, name string) ([]byte, error)
}

// shelf has the schemas that records were written by: ours, and those of other times and other
// MOMs, which the store keeps under the hash of their bytes. It is safe for concurrent use.
type shelf struct {
	store shelfStore
	log   *slog.Logger
	ours  *route.Schemas
	names map[string]string // of our schemas, by service
	raw   map[string][]byte // these, by name
	again chan struct{}

	mu     sync.Mutex
	others map[string]*route.Schemas
}

func newShelf(store shelfStore, ours *route.Schemas, services []string, log *slog.Logger) (*shelf, error) {
	s := &shelf{
		store: store, log: log, ours: ours, names: map[string]string{}, raw: map[string][]byte{},
		again: make(chan struct{}, 1), others: map[string]*route.Schemas{},
	}
	for _, service := range services {
		raw, err := ours.Snapshot(service)
		switch {
		case err != nil:
			return nil, err
		case len(raw) > maxSnapshot:
			log.Warn("schema too large to be kept beside its tasks: answers cannot be read as JSON once it changes", "service", service, "bytes", len(raw))
		case len(raw) > 0:
			s.names[service] = digest(raw)
			s.raw[s.names[service]] = raw
		}
	}
	return s, nil
}

// name is that of our schema of a service; empty when there is none to be kept.
func (s *shelf) name(service string) string { return s.names[service] }

// find returns a schema that a record names. ErrNotFound.
func (s *shelf) find(ctx context.Context, name string) (*route.Schemas, error) {
	if s.raw[name] != nil {
		return s.ours, nil
	}
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
	if len(s.others) >= maxShelf {
		clear(s.others)
	}
	s.others[name] = found
	return found, nil
}

// keepAgain has our schemas kept again: the store may not have them any more.
func (s *shelf) keepAgain() { nudge(s.again) }

// Run keeps our schemas in the store until ctx ends.
func (s *shelf) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		next := keepSchemaPause
		for name, raw := range s.raw {
			bounded, cancel := context.WithTimeout(ctx, storeTimeout)
			err := s.store.KeepSchema(bounded, name, raw)
			cancel()
			if err != nil {
				s.log.Debug("schema not kept", "schema", name, "error", err)
				next = keepSchemaRetry
				break // the store is away or full
			}
		}
		pause(ctx, next, s.again)
	}
	return nil
}
