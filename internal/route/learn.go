package route

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// learned has the schemas that were learned while the program runs, by service. Each service describes
// only itself: no other service sees the types of its schema.
type learned struct {
	mu      sync.Mutex
	schemas atomic.Pointer[map[string]*Schemas] // replaced, never changed
	digests sync.Map                            // service → digested
	version atomic.Int64
	heard   []func() // called after each change
}

// Learn takes over the schema of a service, from the service or from somebody who knows it. It returns false if the schema
// is known already, or the schema of this service is not to be learned. It is safe for concurrent use.
func (s *Schemas) Learn(service string, schema *Schemas) bool {
	digest := schema.Digest(service) // it may take long
	s.learned.mu.Lock()
	defer s.learned.mu.Unlock()
	if !s.Learns(service) || digest == "" || digest == s.Digest(service) && alike(s.Of(service), schema, service) {
		return false
	}
	next := map[string]*Schemas{}
	if old := s.learned.schemas.Load(); old != nil {
		next = maps.Clone(*old)
	}
	next[service] = schema.now()
	s.learned.schemas.Store(&next)
	s.learned.version.Add(1)
	for _, tell := range s.learned.heard {
		tell()
	}
	return true
}

// alike tells whether two schemas of a service are the same to the last byte. Equal digests are not enough: a digest covers the
// messages of the methods, but not types that may be in an Any.
func alike(a, b *Schemas, service string) bool {
	one, err := a.Snapshot(service)
	two, errTwo := b.Snapshot(service)
	return err == nil && errTwo == nil && bytes.Equal(one, two)
}

// OnLearn has a function called whenever something was learned. The function must not block.
func (s *Schemas) OnLearn(tell func()) {
	s.learned.mu.Lock()
	defer s.learned.mu.Unlock()
	s.learned.heard = append(s.learned.heard, tell)
}

// Replace replaces the images, and the routes' options about schemas, by those of next. The learned schema of a
// service stays, unless a new image has the service, or its route says that it has no schema. Calls
// under way keep the schema that they began with. It is safe for concurrent use.
func (s *Schemas) Replace(next *Schemas) {
	s.learned.mu.Lock()
	defer s.learned.mu.Unlock()
	if next = next.now(); next == s.now() {
		return
	}
	s.follows.Store(next)
	if all := s.learned.schemas.Load(); all != nil {
		kept := maps.Clone(*all)
		maps.DeleteFunc(kept, func(service string, _ *Schemas) bool { return next.none[service] || next.Given(service) })
		s.learned.schemas.Store(&kept)
	}
	s.learned.version.Add(1)
}

// now has the schemas of the current images and routes.
func (s *Schemas) now() *Schemas {
	if follows := s.follows.Load(); follows != nil {
		return follows
	}
	return s
}

// Version changes with each schema that is learned, and with each Replace.
func (s *Schemas) Version() int64 { return s.learned.version.Load() }

// Given tells whether an image or a linked package has a service.
func (s *Schemas) Given(service string) bool { return s.given(service) != nil }

// Learns tells whether the schema of a service is to be learned from it: it is not given, and its route does not say
// SchemaNone.
func (s *Schemas) Learns(service string) bool { return !s.now().none[service] && !s.Given(service) }

// Lacks tells whether the schema of a service is to be learned, and nobody has told it yet.
func (s *Schemas) Lacks(service string) bool { return s.Learns(service) && s.Service(service) == nil }

// Of returns the schemas that have a service and the types of its messages. When these have changed, it returns another value.
func (s *Schemas) Of(service string) *Schemas {
	if all := s.learned.schemas.Load(); all != nil && (*all)[service] != nil {
		return (*all)[service]
	}
	return s.now()
}

// others are the learned schemas, in the order of their services.
func (s *Schemas) others() (list []*Schemas) {
	all := s.learned.schemas.Load()
	if all == nil {
		return nil
	}
	for _, service := range slices.Sorted(maps.Keys(*all)) {
		list = append(list, (*all)[service])
	}
	return list
}

// find looks in the given schemas first, and then in the learned ones.
func find[K, V any](s *Schemas, key K, ask func(*Schemas, K) (V, error)) (V, error) {
	v, err := ask(s.now(), key)
	if err == nil {
		return v, nil
	}
	for _, other := range s.others() {
		if v, err := ask(other, key); err == nil {
			return v, nil
		}
	}
	return v, err
}
