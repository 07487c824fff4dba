package mom

import (
	"context"
	"time"
)

// renew prolongs the leases of what is under way, and ends attempts whose lease
// is lost.
func (r *replayer) renew(ctx context.Context) {
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
