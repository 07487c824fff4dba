package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"holdline/mom"
)

// walkBatch is how many tasks count_parked.lua and rouse.lua look at.
const walkBatch = 100

// Reap implements mom.Store.
func (s *Store) Reap(ctx context.Context, shard mom.Shard) (mom.Reaped, error) {
	keys := s.keys(shard)
	if !keys.counted.Load() {
		if err := s.walk(ctx, countScript, keys); err != nil {
			return mom.Reaped{}, err
		}
		if err := s.walk(ctx, rouseScript, keys); err != nil {
			return mom.Reaped{}, err
		}
		keys.counted.Store(true)
	}
	args := []string{
		s.tombstone(), millis(s.cfg.ParkedTTL), strconv.FormatInt(s.cfg.MaxParkedBytes, 10),
		strconv.FormatInt(s.cfg.LeaseGrace.Milliseconds(), 10), millis(mom.LongestLease), millis(mom.LongestBackoff),
	}
	reply, err := s.run(ctx, reapScript, keys, append(args, keys.leases.ripe(time.Now(), s.cfg.LeaseGrace)...)...)
	if err != nil {
		return mom.Reaped{}, err
	}
	fields, err := reply.ToArray()
	if err != nil || len(fields) != 5 {
		return mom.Reaped{}, fmt.Errorf("reap: unexpected reply: %w", err)
	}
	var counts [4]int64
	for i := range counts {
		if counts[i], err = fields[i].AsInt64(); err != nil {
			return mom.Reaped{}, fmt.Errorf("reap: %w", err)
		}
	}
	near, err := readNear(fields[4])
	if err != nil {
		return mom.Reaped{}, fmt.Errorf("reap: %w", err)
	}
	next := time.Duration(counts[0]) * time.Millisecond
	if lease := keys.leases.see(time.Now(), s.cfg.LeaseGrace, near); lease >= 0 && (next < 0 || lease < next) {
		next = lease
	}
	return mom.Reaped{Next: next, GivenUp: counts[1], Parked: s.parked(counts[2], counts[3])}, nil
}

// readNear reads the leases that reap.lua wants to have watched.
func readNear(reply rueidis.RedisMessage) ([]nearLease, error) {
	fields, err := reply.ToArray()
	if err != nil || len(fields)%3 != 0 {
		return nil, fmt.Errorf("unexpected reply: %d fields of leases: %w", len(fields), err)
	}
	near := make([]nearLease, 0, len(fields)/3)
	for triple := range slices.Chunk(fields, 3) {
		left, err := triple[2].AsInt64()
		if err != nil {
			return nil, err
		}
		ulid, _ := triple[0].ToString()
		end, _ := triple[1].ToString()
		near = append(near, nearLease{ulid, end, time.Duration(left) * time.Millisecond})
	}
	return near, nil
}

// walk runs what is to be done once for each task of a list when a MOM starts, and so
// by the last MOM of a rolling update too: the calls of the tasks that an older release
// has parked are counted, and tasks that another MOM could not send are due at once.
func (s *Store) walk(ctx context.Context, sc *script, keys *shardKeys) error {
	for offset := 0; ; offset += walkBatch {
		looked, err := s.numbers(ctx, sc, keys, 1, strconv.Itoa(offset))
		if err != nil {
			return fmt.Errorf("%s: %w", sc.name, err)
		}
		if looked[0] < walkBatch {
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
