package mom

import (
	"context"
	"time"

	"holdline/internal/logonce"
)

const (
	leaseTime  = 10 * time.Second
	renewPause = 3 * time.Second
)

// renewStore is what a renewal needs of the store.
type renewStore interface {
	// Renew prolongs leases of one shard by d from now, and returns the leases that are lost.
	Renew(ctx context.Context, shard Shard, leases []Lease, d time.Duration) (lost []Lease, err error)
}

// renewal prolongs the leases of a replayer's tasks under way, and ends the attempts
// whose lease is lost.
type renewal struct {
	store   renewStore
	shard   Shard
	flights *flights
	once    *logonce.Logger
}

// Run renews until ctx ends.
func (r *renewal) Run(ctx context.Context) {
	ticker := time.NewTicker(renewPause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		leases := r.flights.leases()
		if len(leases) == 0 {
			continue
		}
		lost, err := r.store.Renew(ctx, r.shard, leases, leaseTime)
		if err != nil {
			r.once.Warn("renew", "leases not renewed", "service", r.shard.Service, "error", err)
		}
		for _, lease := range lost {
			r.flights.cut(lease)
		}
	}
}
