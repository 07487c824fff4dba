package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"holdline/mom"
)

// parkedBatch is how many tasks count_parked.lua looks at.
const parkedBatch = 100

// Reap implements mom.Store.
func (s *Store) Reap(ctx context.Context, shard mom.Shard) (mom.Reaped, error) {
	keys := s.keys(shard)
	if !keys.counted.Load() {
		if err := s.countParked(ctx, keys); err != nil {
			return mom.Reaped{}, err
		}
		keys.counted.Store(true)
	}
	counts, err := s.numbers(ctx, reapScript, keys, 4,
		s.tombstone(), millis(s.cfg.ParkedTTL), strconv.FormatInt(s.cfg.MaxParkedBytes, 10))
	if err != nil {
		return mom.Reaped{}, err
	}
	return mom.Reaped{
		Next:    time.Duration(counts[0]) * time.Millisecond,
		GivenUp: counts[1],
		Parked:  s.parked(counts[2], counts[3]),
	}, nil
}

// countParked counts the calls of the tasks that an older release has parked. It is
// done when a MOM starts, and so by the last MOM of a rolling update too.
func (s *Store) countParked(ctx context.Context, keys *shardKeys) error {
	for offset := 0; ; offset += parkedBatch {
		looked, err := s.numbers(ctx, countScript, keys, 1, strconv.Itoa(offset))
		if err != nil {
			return fmt.Errorf("count parked tasks: %w", err)
		}
		if looked[0] < parkedBatch {
			return nil
		}
	}
}

// parked tells how near the parked tasks of a shard are to their end.
func (s *Store) parked(bytes, oldest int64) mom.Parked {
	p := mom.Parked{Bytes: bytes, Oldest: time.Duration(oldest) * time.Millisecond}
	p.Share = max(float64(p.Bytes)/float64(s.cfg.MaxParkedBytes), float64(p.Oldest)/float64(s.cfg.ParkedTTL))
	return p
}
