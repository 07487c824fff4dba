package redisstore

import (
	"context"
	"slices"
	"strconv"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/mom"
)

// Cancel implements mom.Store.
func (s *Store) Cancel(ctx context.Context, id contract.TaskID) error {
	return s.do(ctx, cancelScript, s.keysOf(id), args{"ulid": id.ULID.String(), "tombstone": s.tombstone()})
}

// Dismiss implements mom.Store.
func (s *Store) Dismiss(ctx context.Context, id contract.TaskID) error {
	return s.do(ctx, dismissScript, s.keysOf(id), args{"ulid": id.ULID.String(), "tombstone": s.tombstone()})
}

// Retry implements mom.Store. The queue may then exceed its limit: the task is stored already.
func (s *Store) Retry(ctx context.Context, id contract.TaskID) error {
	return s.do(ctx, retryScript, s.keysOf(id), args{"ulid": id.ULID.String()})
}

// RetryDead implements mom.Store. It works in batches, so that other calls get their turn. It
// retries only tasks that were there when it began: those that die again meanwhile stay dead.
// After an error the number counts what was done.
func (s *Store) RetryDead(ctx context.Context, shard mom.Shard, uncertain bool) (int64, error) {
	return s.inBatches(ctx, shard, retryDeadScript, args{"uncertain": flag(uncertain)}, "from", "before")
}

// Restore implements mom.Store. It works in batches, and starts again until it finds nothing left
// to do, since tasks may come and go meanwhile.
func (s *Store) Restore(ctx context.Context, shard mom.Shard) (int64, error) {
	var uncertain int64
	for {
		found, err := s.inBatches(ctx, shard, restoreScript, args{}, "from_open", "from_parked")
		uncertain += found
		if err != nil || found == 0 {
			return uncertain, err
		}
	}
}

// inBatches runs a script again and again until it has come to the end; each run waits for its turn (see bulk). It returns how many tasks were
// changed. The script replies with the number of tasks that the run has changed, and with the places where the
// next run starts: all -1 at the end. The next run gets these places as arguments of these names; the first run gets 0.
func (s *Store) inBatches(ctx context.Context, shard mom.Shard, sc *script, given args, places ...string) (done int64, err error) {
	at := make([]int64, len(places))
	for err == nil && slices.Max(at) >= 0 {
		for i, place := range places {
			given[place] = strconv.FormatInt(at[i], 10)
		}
		err = s.requests.run(ctx, func() error {
			counts, err := s.numbers(ctx, sc, s.keys(shard), 1+len(places), given)
			if err == nil {
				done, at = done+counts[0], counts[1:]
			}
			return err
		})
	}
	return done, err
}

// Depth implements mom.Store.
func (s *Store) Depth(ctx context.Context, shard mom.Shard) (mom.Depth, error) {
	counts, err := s.numbers(ctx, depthScript, s.keys(shard), 13, args{})
	if err != nil {
		return mom.Depth{}, err
	}
	return mom.Depth{
		Queued: counts[0], Running: counts[1], Retrying: counts[2], Dead: counts[3], Uncertain: counts[11],
		Paused:     counts[4] == 1,
		OldestWait: time.Duration(counts[5]) * time.Millisecond,
		Bytes:      counts[6],
		Limits:     mom.Limits{Running: counts[7], PerSecond: float64(counts[8]) / 1000},
		Parked:     s.parked(counts[9], counts[10]),
		Refused:    time.Duration(counts[12]) * time.Millisecond,
	}, nil
}

// Ended implements mom.Store.
func (s *Store) Ended(ctx context.Context, shard mom.Shard) (map[momv1.TaskState]int64, error) {
	counts, err := s.numbers(ctx, endedScript, s.keys(shard), int(lastState), args{})
	ended := map[momv1.TaskState]int64{}
	for i, n := range counts {
		if state := momv1.TaskState(i + 1); !contract.IsOpen(state) {
			ended[state] = n
		}
	}
	return ended, err
}

// Pause implements mom.Store.
func (s *Store) Pause(ctx context.Context, shard mom.Shard, paused bool) error {
	return s.do(ctx, pauseScript, s.keys(shard), args{"paused": flag(paused)})
}

// Limit implements mom.Store.
func (s *Store) Limit(ctx context.Context, shard mom.Shard, limits mom.Limits) error {
	return s.do(ctx, limitScript, s.keys(shard), args{
		"most": strconv.FormatInt(limits.Running, 10), "rate": strconv.FormatFloat(limits.PerSecond, 'f', 6, 64),
	})
}
