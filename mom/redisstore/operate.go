package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"holdline/internal/contract"
	"holdline/mom"
)

// reviveBatch is how many tasks revive_dead.lua takes at once.
const reviveBatch = 100

// Cancel implements mom.Store.
func (s *Store) Cancel(ctx context.Context, id contract.TaskID) error {
	return s.steer(ctx, cancelScript, id, s.tombstone())
}

// Dismiss implements mom.Store.
func (s *Store) Dismiss(ctx context.Context, id contract.TaskID) error {
	return s.steer(ctx, dismissScript, id, s.tombstone())
}

// Revive implements mom.Store. It may fill a queue over its limit: the task is
// stored already.
func (s *Store) Revive(ctx context.Context, id contract.TaskID) error {
	return s.steer(ctx, reviveScript, id)
}

// steer runs a transition that a person asked for.
func (s *Store) steer(ctx context.Context, sc *script, id contract.TaskID, args ...string) error {
	word, err := s.status(ctx, sc, s.keysOf(id), append([]string{id.ULID.String()}, args...)...)
	switch {
	case err != nil:
		return err
	case word == "NONE":
		return mom.ErrNotFound
	case word == "STATE":
		return mom.ErrTaskState
	case word == "DROPPED":
		return mom.ErrCallDropped
	}
	return nil
}

// ReviveDead implements mom.Store. It goes in batches, so that other calls get
// their turn, and stops at the tasks that were there when it began: those that
// die again meanwhile stay dead. After an error the number counts what was done.
func (s *Store) ReviveDead(ctx context.Context, shard mom.Shard, uncertain bool) (int64, error) {
	depth, err := s.Depth(ctx, shard)
	if err != nil {
		return 0, fmt.Errorf("revive dead: %w", err)
	}
	var revived, passed int64
	for left := depth.Dead; left > 0; left -= reviveBatch {
		counts, err := s.numbers(ctx, reviveDeadScript, s.keys(shard), 2,
			flag(uncertain), strconv.FormatInt(passed, 10), strconv.FormatInt(min(left, reviveBatch), 10))
		if err != nil {
			return revived, err
		}
		revived += counts[0]
		passed += counts[1]
	}
	return revived, nil
}

// Depth implements mom.Store.
func (s *Store) Depth(ctx context.Context, shard mom.Shard) (mom.Depth, error) {
	counts, err := s.numbers(ctx, depthScript, s.keys(shard), 11)
	if err != nil {
		return mom.Depth{}, err
	}
	return mom.Depth{
		Queued: counts[0], Running: counts[1], Retrying: counts[2], Dead: counts[3],
		Paused:     counts[4] == 1,
		OldestWait: time.Duration(counts[5]) * time.Millisecond,
		Bytes:      counts[6],
		Limits:     mom.Limits{Running: counts[7], PerSecond: float64(counts[8]) / 1000},
		Parked:     s.parked(counts[9], counts[10]),
	}, nil
}

// Pause implements mom.Store.
func (s *Store) Pause(ctx context.Context, shard mom.Shard, paused bool) error {
	_, err := s.status(ctx, pauseScript, s.keys(shard), flag(paused))
	return err
}

// Limit implements mom.Store.
func (s *Store) Limit(ctx context.Context, shard mom.Shard, limits mom.Limits) error {
	_, err := s.status(ctx, limitScript, s.keys(shard),
		strconv.FormatInt(limits.Running, 10), strconv.FormatFloat(limits.PerSecond, 'f', 6, 64))
	return err
}

// numbers runs a script that answers with n numbers.
func (s *Store) numbers(ctx context.Context, sc *script, keys *shardKeys, n int, args ...string) ([]int64, error) {
	reply, err := s.run(ctx, sc, keys, args...)
	if err != nil {
		return nil, err
	}
	numbers, err := reply.AsIntSlice()
	if err != nil || len(numbers) != n {
		return nil, fmt.Errorf("%s: %d numbers, not %d: %w", sc.name, len(numbers), n, err)
	}
	return numbers, nil
}
