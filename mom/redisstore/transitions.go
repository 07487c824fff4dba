package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"
	"google.golang.org/protobuf/proto"

	momv1 "holdline/gen/mom/v1"
	"holdline/mom"
)

// MarkSent implements mom.Store.
func (s *Store) MarkSent(ctx context.Context, lease mom.Lease) error {
	return s.fenced(ctx, markScript, lease, args{"repeatable": flag(lease.Repeatable)})
}

// Settle implements mom.Store.
func (s *Store) Settle(ctx context.Context, lease mom.Lease, answer *momv1.Answer) error {
	stored, err := proto.MarshalOptions{Deterministic: true}.Marshal(answer)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	state := momv1.TaskState_TASK_STATE_SUCCEEDED
	if answer.GetError() != nil {
		state = momv1.TaskState_TASK_STATE_FAILED
	}
	return s.fenced(ctx, settleScript, lease, args{
		"state": strconv.Itoa(int(state)), "answer": rueidis.BinaryString(stored), "tombstone": s.tombstone(),
	})
}

// Release implements mom.Store. Tasks that come back together keep their order
// of arrival.
func (s *Store) Release(ctx context.Context, lease mom.Lease) error {
	return s.fenced(ctx, releaseScript, lease, args{"tombstone": s.tombstone()})
}

// PutBack implements mom.Store.
func (s *Store) PutBack(ctx context.Context, lease mom.Lease, why string, wait time.Duration, all bool) (time.Duration, error) {
	return s.later(ctx, putBackScript, lease, args{
		"why": shorten(why), "wait": millis(wait), "all": flag(all), "tombstone": s.tombstone(),
	})
}

// PassOver implements mom.Store.
func (s *Store) PassOver(ctx context.Context, lease mom.Lease, why string, wait time.Duration) (time.Duration, error) {
	return s.later(ctx, bypassScript, lease, args{"why": shorten(why), "wait": millisOrNone(wait)})
}

// Park implements mom.Store.
func (s *Store) Park(ctx context.Context, lease mom.Lease, failure string) error {
	return s.fenced(ctx, parkScript, lease, args{"failure": shorten(failure)})
}

// Spend implements mom.Store.
func (s *Store) Spend(ctx context.Context, lease mom.Lease, failure string, backoff time.Duration, maxAttempts int) (momv1.TaskState, error) {
	reply, err := s.leased(ctx, spendScript, lease, args{
		"failure": shorten(failure), "backoff": millisOrNone(backoff), "max_attempts": strconv.Itoa(maxAttempts), "tombstone": s.tombstone(),
	})
	if err != nil {
		return momv1.TaskState_TASK_STATE_UNSPECIFIED, err
	}
	state, err := reply.ToString()
	return readState(state), err
}

// later runs a transition after which a leased task waits, and returns for how long.
func (s *Store) later(ctx context.Context, sc *script, lease mom.Lease, given args) (time.Duration, error) {
	reply, err := s.leased(ctx, sc, lease, given)
	if err != nil {
		return 0, err
	}
	due, err := reply.AsInt64()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", sc.name, err)
	}
	return time.Duration(due) * time.Millisecond, nil
}

// fenced is leased for a script that replies only whether it was done.
func (s *Store) fenced(ctx context.Context, sc *script, lease mom.Lease, given args) error {
	_, err := s.leased(ctx, sc, lease, given)
	return err
}

// leased runs a transition that starts from a lease, whose ULID and epoch it adds to the arguments.
func (s *Store) leased(ctx context.Context, sc *script, lease mom.Lease, given args) (rueidis.RedisMessage, error) {
	given["ulid"], given["epoch"] = lease.ID.ULID.String(), epoch(lease)
	return s.run(ctx, sc, s.keysOf(lease.ID), given)
}
