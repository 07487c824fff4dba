package mom

import (
	"context"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/route"
)

// SetShards implements momv1connect.QueueServiceHandler. Tasks that are stored stay where they
// are: shards that get no new tasks are replayed until they are empty.
func (s *queueService) SetShards(ctx context.Context, req *momv1.SetShardsRequest) (*momv1.SetShardsResponse, error) {
	service, shards := req.GetService(), int(req.GetShards())
	if shards < 1 || shards > route.MaxShards {
		return nil, connect.Errorf(connect.CodeInvalidArgument, "shards: want 1 to %d", route.MaxShards)
	}
	if err := s.has(service); err != nil {
		return nil, err
	}
	if err := s.renumber(ctx, service, shards); err != nil {
		return nil, storeError(err)
	}
	s.operated(ctx, "number of shards set", service, "shards", shards)
	queue, err := s.queue(ctx, service)
	return &momv1.SetShardsResponse{Queue: queue}, err
}

// renumber changes the number of shards of a queue. New shards are paused and limited in the same way as the
// others.
func (s *queueService) renumber(ctx context.Context, service string, shards int) error {
	if _, err := s.shards.read(ctx, service); err != nil {
		return err
	}
	was, err := s.shards.depth(ctx, service) // also finds out whether all shards can be reached
	if err != nil {
		return err
	}
	for i := len(s.shards.of(service)); i < shards; i++ {
		shard := Shard{Service: service, Index: i}
		if err := s.store.Pause(ctx, shard, was.Paused); err != nil {
			return err
		}
		if err := s.store.Limit(ctx, shard, was.Limits.share(i, shards)); err != nil {
			return err
		}
	}
	if _, err := s.store.Renumber(ctx, service, shards); err != nil {
		return err
	}
	if _, err := s.shards.read(ctx, service); err != nil {
		return err
	}
	s.shards.lookSoon() // the look also notifies the other MOMs
	return s.limit(ctx, service, was.Limits)
}

// limit limits a queue. The shards that get new tasks, and old shards that still have tasks, share
// the limits evenly, but each may always have one task under way.
func (s *queueService) limit(ctx context.Context, service string, limits Limits) error {
	depth, err := s.shards.depth(ctx, service)
	if err != nil {
		return err
	}
	for i, shard := range s.shards.of(service) {
		if err := s.store.Limit(ctx, shard, limits.share(i, depth.inUse())); err != nil {
			return err
		}
	}
	return nil
}

// share is the share of one of n shards, at a place counted from 0. The first shards get the remainder.
func (l Limits) share(place, n int) Limits {
	share := Limits{PerSecond: l.PerSecond / float64(n)}
	if l.Running == 0 {
		return share
	}
	share.Running = l.Running / int64(n)
	if int64(place) < l.Running%int64(n) {
		share.Running++
	}
	share.Running = max(share.Running, 1)
	return share
}
