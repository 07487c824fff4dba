package mom

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/logonce"
)

const (
	// lookPause is the time between two looks for queues that other MOMs have begun, and
	// for numbers of shards that they have changed.
	lookPause = 10 * time.Second
	// missedPause is that after a look that missed something.
	missedPause = time.Second
)

// shardStore is what the shards need of the store.
type shardStore interface {
	depthStore
	// Numbering returns the number of shards of a service. A service without one
	// gets the first, unless that is 0: ErrNotFound. What Renumber has begun, at
	// whichever MOM, is ended before.
	Numbering(ctx context.Context, service string, first int) (Numbering, error)
	// Services lists the services that Register was told of, each with an epoch.
	Services(ctx context.Context) (epochs map[string]int64, err error)
	// Register makes Services list these services. An epoch that is not that of the
	// Numbering tells other MOMs to read it again.
	Register(ctx context.Context, epochs map[string]int64) error
	// Ended returns how many tasks of a shard have come to each state in which they stay, since the store began.
	Ended(ctx context.Context, shard Shard) (map[momv1.TaskState]int64, error)
}

// shards are all shards that the store has, as far as this MOM knows: of its routes, and of
// services that only other MOMs route, or none any more. The set grows while the MOM runs.
// It is safe for concurrent use.
type shards struct {
	store      shardStore
	routes     *routes
	newPart    func(Shard, *alarm) *part
	newSending func(Shard, *part, *sender) *sending
	onHold     bool // nothing works on them
	log        *slog.Logger
	once       *logonce.Logger
	soon       chan struct{} // asks for another look

	mu      sync.RWMutex
	known   map[string]known
	parts   map[Shard]*part
	alarms  map[string]*alarm                 // by service
	start   func(func(context.Context) error) // has something work; nil unless Run does
	grown   chan struct{}                     // closed when there are more parts
	doubted int                               // counts the doubts
}

// known is a number of shards as the store said, after so many doubts.
type known struct {
	Numbering
	doubted int
}

func newShards(store shardStore, routes *routes, onHold bool, log *slog.Logger, once *logonce.Logger) *shards {
	return &shards{
		store: store, routes: routes, onHold: onHold, log: log, once: once, soon: make(chan struct{}, 1), grown: make(chan struct{}),
		known: map[string]known{}, parts: map[Shard]*part{}, alarms: map[string]*alarm{},
	}
}

// follow makes the shards that the routes name, and has the tasks of all shards sent by the senders that there are
// now. The store may have fewer shards: to look at one without tasks does no harm.
func (s *shards) follow() {
	s.mu.Lock()
	for shard, p := range s.parts {
		s.send(shard, p)
	}
	more := false
	for service, sender := range s.routes.all() {
		more = s.grow(service, max(sender.route().Shards, 1)) || more
	}
	if more {
		s.tellGrown()
	}
	said := maps.Clone(s.known)
	s.mu.Unlock()
	for service, is := range said {
		s.tellNumber(service, is)
	}
}

// send has the tasks of a shard sent by the sender that there is now. The caller holds mu.
func (s *shards) send(shard Shard, p *part) {
	sender := s.routes.of(shard.Service)
	if p.sending != nil {
		if p.sending.sender == sender {
			return
		}
		p.sending.end()
		p.sending = nil
	}
	if sender == nil {
		return
	}
	p.sending = s.newSending(shard, p, sender)
	if s.start != nil {
		s.start(p.sending.Run)
	}
}

// grow adds those of the first n shards of a service that are not there yet. The caller holds mu.
func (s *shards) grow(service string, n int) (more bool) {
	if s.alarms[service] == nil {
		s.alarms[service] = &alarm{log: s.log.With("service", service)}
	}
	for i := range n {
		shard := Shard{Service: service, Index: i}
		if s.parts[shard] != nil {
			continue
		}
		more = true
		p := s.newPart(shard, s.alarms[service])
		s.parts[shard] = p
		if s.start != nil {
			s.start(p.reaper.Run)
		}
		s.send(shard, p)
	}
	return more
}

// tellGrown says that there are more parts. The caller holds mu.
func (s *shards) tellGrown() {
	close(s.grown)
	s.grown = make(chan struct{})
}

// part is what works on a shard; nil for one that is not known.
func (s *shards) part(shard Shard) *part {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.parts[shard]
}

// all lists the shards that are known. The channel is closed when there are more.
func (s *shards) all() (list []Shard, grown <-chan struct{}) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Keys(s.parts)), s.grown
}

// services lists the services that have shards, sorted.
func (s *shards) services() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.alarms))
}

// alarm warns of the queue of a service; nil for a service without shards.
func (s *shards) alarm(service string) *alarm {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.alarms[service]
}

// of lists the shards of a service that are known, by index.
func (s *shards) of(service string) []Shard {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []Shard
	for shard := range s.parts {
		if shard.Service == service {
			list = append(list, shard)
		}
	}
	slices.SortFunc(list, func(a, b Shard) int { return a.Index - b.Index })
	return list
}

// numbering is the number of shards of a service. The store is asked if it has not said it yet.
func (s *shards) numbering(ctx context.Context, service string) (Numbering, error) {
	s.mu.RLock()
	is, ok := s.known[service]
	s.mu.RUnlock()
	if ok {
		return is.Numbering, nil
	}
	return s.read(ctx, service)
}

// read is numbering for one that may have changed.
func (s *shards) read(ctx context.Context, service string) (Numbering, error) {
	s.mu.RLock()
	doubted := s.doubted
	s.mu.RUnlock()
	is, err := s.ask(ctx, service)
	if err == nil {
		s.learn(map[string]known{service: {is, doubted}})
	}
	return is, err
}

// ask asks the store for the number of shards of a service. One that has a route and no number
// gets the number that it had, before the store was emptied, or else that of its route.
func (s *shards) ask(ctx context.Context, service string) (Numbering, error) {
	s.mu.RLock()
	first := s.known[service].Shards
	s.mu.RUnlock()
	switch sender := s.routes.of(service); {
	case sender == nil:
		first = 0
	case first == 0:
		first = max(sender.route().Shards, 1)
	}
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.store.Numbering(bounded, service, first)
}

// learn takes numbers of shards that the store has said.
func (s *shards) learn(said map[string]known) {
	s.mu.Lock()
	more := false
	for service, is := range said {
		if was := s.known[service]; was.Epoch > is.Epoch && was.doubted >= is.doubted {
			continue // it was read earlier
		}
		s.known[service] = is
		more = s.grow(service, is.All()) || more
	}
	if more {
		s.tellGrown()
	}
	s.mu.Unlock()
	for service, is := range said {
		s.tellNumber(service, is)
	}
}

// tellNumber warns of a number of shards that is not that of the route.
func (s *shards) tellNumber(service string, is known) {
	sender := s.routes.of(service)
	if sender == nil {
		return
	}
	if r := sender.route(); r.Shards != 0 && r.Shards != is.Shards {
		s.once.Warn("shards "+service, "the queue has another number of shards than its route says, and keeps it",
			"service", service, "shards", is.Shards, "route", r.Shards, "change", fmt.Sprintf("holdline queue shards %s %d", service, r.Shards))
	}
}

// meet makes a shard known that another MOM may have begun.
func (s *shards) meet(ctx context.Context, shard Shard) {
	if s.part(shard) == nil {
		_, _ = s.read(ctx, shard.Service) // whoever asks for the task hears what is wrong
	}
}

// doubt has all numbers read anew: the store may be another, or an older copy.
func (s *shards) doubt() {
	s.mu.Lock()
	s.doubted++
	s.mu.Unlock()
	s.lookSoon()
}

// lookSoon asks for another look.
func (s *shards) lookSoon() { nudge(s.soon) }

// Run works on all shards, and looks for more, until ctx ends.
func (s *shards) Run(ctx context.Context) error {
	var working errgroup.Group
	s.mu.Lock()
	if !s.onHold {
		s.start = func(run func(context.Context) error) { working.Go(func() error { return run(ctx) }) }
		for _, p := range s.parts {
			s.start(p.reaper.Run)
			if p.sending != nil {
				s.start(p.sending.Run)
			}
		}
	}
	s.mu.Unlock()
	for ctx.Err() == nil {
		next := lookPause
		if err := s.look(ctx); err != nil {
			s.log.Debug("queues not looked at", "error", err)
			next = missedPause
		}
		pause(ctx, next, s.soon)
	}
	s.mu.Lock()
	s.start = nil
	s.mu.Unlock()
	return working.Wait()
}
