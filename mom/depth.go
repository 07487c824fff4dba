package mom

import (
	"context"

	momv1 "holdline/gen/mom/v1"
)

// queueDepth counts the tasks of a service, over its shards.
type queueDepth struct {
	Depth
	shards    int // among which new tasks are placed
	oldShards int // shards that have tasks, but get no new ones
	noRoute   bool
}

// gone tells whether a queue has no route and no tasks: only its number of shards is left in the store.
func (d queueDepth) gone() bool { return d.noRoute && d.Empty() }

// inUse is how many shards share the limits of the queue.
func (d queueDepth) inUse() int { return d.shards + d.oldShards }

// depth adds up the shards of a service. The sum is paused if any of the shards is.
func (s *shards) depth(ctx context.Context, service string) (sum queueDepth, err error) {
	numbering, err := s.numbering(ctx, service)
	if err != nil {
		return sum, err
	}
	sum.shards, sum.noRoute = numbering.Shards, s.routes.of(service) == nil
	for _, shard := range s.of(service) {
		depth, err := s.store.Depth(ctx, shard)
		if err != nil {
			return sum, err
		}
		if shard.Index >= numbering.Shards {
			if depth.Empty() {
				continue
			}
			sum.oldShards++
		}
		sum.Queued += depth.Queued
		sum.Running += depth.Running
		sum.Retrying += depth.Retrying
		sum.Dead += depth.Dead
		sum.Uncertain += depth.Uncertain
		sum.Paused = sum.Paused || depth.Paused
		sum.OldestWait = max(sum.OldestWait, depth.OldestWait)
		sum.Refused = max(sum.Refused, depth.Refused)
		sum.Bytes += depth.Bytes
		sum.Limits.Running += depth.Limits.Running
		sum.Limits.PerSecond += depth.Limits.PerSecond
		sum.Parked.Bytes += depth.Parked.Bytes
		sum.Parked.Oldest = max(sum.Parked.Oldest, depth.Parked.Oldest)
		sum.Parked.Share = max(sum.Parked.Share, depth.Parked.Share)
	}
	return sum, nil
}

// ended adds up how many tasks of a service have reached each final state.
func (s *shards) ended(ctx context.Context, service string) (map[momv1.TaskState]int64, error) {
	sum := map[momv1.TaskState]int64{}
	for _, shard := range s.of(service) {
		ended, err := s.store.Ended(ctx, shard)
		if err != nil {
			return nil, err
		}
		for state, n := range ended {
			sum[state] += n
		}
	}
	return sum, nil
}
