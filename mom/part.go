package mom

import (
	"context"
	"sync"
	"time"
)

// part does the work on one shard.
type part struct {
	reaper  *reaper
	demand  *demand
	sending *sending   // nil without a route to the service
	turn    sync.Mutex // held by a sending while it runs: a shard has one sending after the other
}

// sending is the replay of a shard, for as long as its service has a route.
type sending struct {
	sender   *sender
	replayer *replayer
	turn     *sync.Mutex
	life     context.Context //nolint:containedctx // it lasts as long as the route
	end      context.CancelFunc
}

// Run replays until ctx ends or the route is gone. It begins when the one before it has ended.
func (s *sending) Run(ctx context.Context) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	s.replayer.ending = ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	return s.replayer.Run(ctx)
}

// newPart makes the part of a shard. parked is the alarm that warns of its tasks.
func (m *MOM) newPart(shard Shard, parked *alarm) *part {
	givenUp := m.metrics.givenUp.WithLabelValues(shard.Service)
	p := &part{demand: &demand{store: m.store, shard: shard}}
	p.reaper = newReaper(m.store, shard, func(reaped Reaped) {
		givenUp.Add(float64(reaped.GivenUp))
		parked.look(time.Now(), reaped)
		p.demand.doubt() // not all transitions are published
	}, m.cfg.Logger)
	return p
}

// newSending makes the sending that has a sender send the tasks of a shard.
func (m *MOM) newSending(shard Shard, p *part, sender *sender) *sending {
	log := m.cfg.Logger.With("service", shard.Service, "shard", shard.Index)
	attempter := &attempter{
		store: m.store, shard: shard, sender: sender, reaper: p.reaper, waiters: m.waiters,
		metrics: m.metrics, traffic: m.traffic.of(shard.Service), outages: m.outages, log: log, once: m.once,
	}
	s := &sending{sender: sender, turn: &p.turn, replayer: &replayer{
		store: m.store, shard: shard, endpoints: sender, attempt: attempter.attempt, demand: p.demand,
		outages: m.outages, log: log, once: m.once, pace: pace{window: 1},
	}}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}
