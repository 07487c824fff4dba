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
	// missedPause is the time to the next look after a look that could not read everything.
	missedPause = time.Second
)

// shardStore is what the shards need of the store.
type shardStore interface {
	depthStore
	// Numbering returns the number of shards of a service. A service without a number
	// gets first as its number, unless first is 0: ErrNotFound. If a MOM has begun a Renumber,
	// Numbering completes it before it returns.
	Numbering(ctx context.Context, service string, first int) (Numbering, error)
	// Services lists the services that were passed to Register, each with an epoch.
	Services(ctx context.Context) (epochs map[string]int64, err error)
	// Register makes Services list these services. When other MOMs see an epoch that differs from the one of the
	// Numbering that they know, they read the Numbering again.
	Register(ctx context.Context, epochs map[string]int64) error
	// Ended returns how many tasks of a shard have reached each final state, since the store began.
	Ended(ctx context.Context, shard Shard) (map[momv1.TaskState]int64, error)
}

// shards has all shards in the store that this MOM knows: those of its own routes, and those of
// services that only other MOMs, or no MOM any more, have a route for. The set grows while the MOM runs.
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
	start   func(func(context.Context) error) // runs a part's reaper or sending in the background; nil unless Run runs
	grown   chan struct{}                     // closed when there are more parts
	doubted int                               // counts the doubts
}

// known is a number of shards as it was read from the store, and how many doubts there had been when it was read.
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

// follow makes the shards that the routes name, and has the current senders send the tasks of all
// shards. The store may have fewer shards: working on a shard without tasks does no harm.
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

// send has the current sender send the tasks of a shard. The caller holds mu.
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

// grow adds the first n shards of a service, unless they are there already. The caller holds mu.
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

// tellGrown closes the channel that shows that there are more parts. The caller holds mu.
func (s *shards) tellGrown() {
	close(s.grown)
	s.grown = make(chan struct{})
}

// part returns the part of a shard; nil if the shard is not known.
func (s *shards) part(shard Shard) *part {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.parts[shard]
}

// all lists the known shards. The channel is closed when there are more.
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

// alarm returns the alarm of a service's queue; nil for a service without shards.
func (s *shards) alarm(service string) *alarm {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.alarms[service]
}

// of lists the known shards of a service, by index.
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

// numbering is the number of shards of a service. It is read from the store unless it was read before.
func (s *shards) numbering(ctx context.Context, service string) (Numbering, error) {
	s.mu.RLock()
	is, ok := s.known[service]
	s.mu.RUnlock()
	if ok {
		return is.Numbering, nil
	}
	return s.read(ctx, service)
}

// read is numbering for a number that may have changed: it always reads from the store.
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

// ask asks the store for the number of shards of a service. A service that has a route and no number
// gets the number that it had before the store was emptied, or else the number of its route.
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

// learn takes over numbers of shards that were read from the store.
func (s *shards) learn(said map[string]known) {
	s.mu.Lock()
	more := false
	for service, is := range said {
		if was := s.known[service]; was.Epoch > is.Epoch && was.doubted >= is.doubted {
			continue // this number was read before the one that we know
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

// tellNumber logs a warning if the number of shards differs from the number in the route.
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

// meet makes a shard known that another MOM may have created.
func (s *shards) meet(ctx context.Context, shard Shard) {
	if s.part(shard) == nil {
		_, _ = s.read(ctx, shard.Service) // the request that needs the task will get the error
	}
}

// doubt has all numbers read anew: the store may be another store, or an older copy.
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
