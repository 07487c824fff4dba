package mom

import "time"

// part is what works on one shard.
type part struct {
	reaper   *reaper
	demand   *demand
	replayer *replayer // nil without a route to the service
}

// newPart makes what works on a shard, of which an alarm warns.
func (m *MOM) newPart(shard Shard, parked *alarm) *part {
	givenUp := m.metrics.givenUp.WithLabelValues(shard.Service)
	p := &part{
		reaper: newReaper(m.store, shard, func(reaped Reaped) {
			givenUp.Add(float64(reaped.GivenUp))
			parked.look(time.Now(), reaped)
		}, m.cfg.Logger),
		demand: &demand{store: m.store, shard: shard},
	}
	sender := m.senders[shard.Service]
	if sender == nil {
		return p
	}
	log := m.cfg.Logger.With("service", shard.Service, "shard", shard.Index)
	attempter := &attempter{
		store: m.store, shard: shard, sender: sender, reaper: p.reaper,
		metrics: m.metrics, traffic: m.traffic[shard.Service], outages: m.outages, log: log, once: m.once,
	}
	p.replayer = &replayer{
		store: m.store, shard: shard, endpoints: sender.pool, attempt: attempter.attempt, demand: p.demand,
		outages: m.outages, log: log, once: m.once, pace: pace{window: 1},
	}
	return p
}
