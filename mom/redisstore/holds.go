package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"holdline/internal/contract"
	"holdline/mom"
)

// keepBatch is how many tasks keep.lua gets at once. Between two runs Redis serves other commands.
const keepBatch = 100

// Keep implements mom.Store.
func (s *Store) Keep(ctx context.Context, shard mom.Shard, ids []contract.TaskID) (missing []contract.TaskID, err error) {
	for batch := range slices.Chunk(ids, keepBatch) {
		ulids := make([]string, len(batch))
		for i, id := range batch {
			ulids[i] = id.ULID.String()
		}
		reply, err := s.run(ctx, keepScript, s.keys(shard), args{}, ulids...)
		if err != nil {
			return missing, err
		}
		positions, err := reply.AsIntSlice()
		if err != nil {
			return missing, fmt.Errorf("keep: %w", err)
		}
		for _, position := range positions {
			missing = append(missing, batch[position-1])
		}
	}
	return missing, nil
}

// Abandon implements mom.Store. After an error some tasks may be cancelled, and others not.
func (s *Store) Abandon(ctx context.Context, shard mom.Shard, left []mom.Departure) error {
	for batch := range slices.Chunk(left, bulkBatch) {
		each := make([]string, 0, 2*len(batch))
		for _, one := range batch {
			offer := ""
			if one.Lost {
				offer = strconv.FormatInt(one.Offer, 10)
			}
			each = append(each, one.ID.ULID.String(), offer)
		}
		abandon := func() error {
			_, err := s.run(ctx, abandonScript, s.keys(shard), args{"tombstone": s.tombstone()}, each...)
			return err
		}
		if err := s.requests.run(ctx, abandon); err != nil {
			return err
		}
	}
	return nil
}
