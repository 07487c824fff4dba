package mom

import (
	"context"
	"sync/atomic"
	"time"

	"holdline/internal/outage"
)

// The counts of an outage, at this MOM.
const (
	countStored   = "stored"
	countReplayed = "replayed"
)

// traffic counts what is under way for a service, at this MOM.
type traffic struct {
	callers  atomic.Int64 // held callers
	attempts atomic.Int64 // attempts at tasks
}

// newOutages returns the log of services whose calls are stored, or wait, because the services are down.
func (m *MOM) newOutages() *outage.Log {
	return outage.New(outage.Config{
		Began:  "a service fails: its calls are stored",
		Lasts:  "a service still fails: its calls wait",
		Back:   "the service is back: its stored calls are answered",
		Gone:   "no more signs of the outage",
		Counts: []string{countStored, countReplayed},
		State: func(service string) outage.State {
			return outage.State{Busy: m.traffic.of(service).attempts.Load() > 0}
		},
		Facts: func(service string) []any {
			facts := []any{"held", m.traffic.of(service).callers.Load()}
			ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
			defer cancel()
			if depth, err := m.shards.depth(ctx, service); err == nil {
				facts = append(facts, "queued", depth.Queued+depth.Retrying, "oldest_wait", depth.OldestWait.Round(time.Second))
			}
			return facts
		},
		Logger: m.cfg.Logger,
	})
}
