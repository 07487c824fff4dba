package redisstore

import (
	"cmp"
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
	if lease.Repeatable {
		return nil // lease.lua has marked it
	}
	return inWords(s.keysOf(lease.ID).turns.run(ctx, &asked{kind: aMark, argv: []string{lease.ID.ULID.String(), epoch(lease)}}))
}

// Settle implements mom.Store.
func (s *Store) Settle(ctx context.Context, lease mom.Lease, answer *momv1.Answer, told bool) error {
	stored, err := proto.MarshalOptions{Deterministic: true}.Marshal(answer)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	state := strconv.Itoa(int(mom.StateOf(answer)))
	argv := []string{lease.ID.ULID.String(), epoch(lease), state, flag(told), rueidis.BinaryString(stored), strconv.Itoa(lease.Size)} // as settle.lua lists them
	return inWords(s.keysOf(lease.ID).turns.run(ctx, &asked{kind: anEnd, argv: argv}))
}

// smallAnswer is the size of the largest answer that is published to those who wait for it, in bytes. They read a larger answer from the store.
const smallAnswer = 1 << 10

// inWords reads one of many replies of a script: OK, or the word of a refusal.
func inWords(reply rueidis.RedisMessage, err error) error {
	if err != nil {
		return err
	}
	word, err := reply.ToString()
	return cmp.Or(err, refusals[word])
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

// later runs a transition after which a leased task waits, and returns how long it waits.
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

// fenced is leased for a script whose reply is only OK or a refusal.
func (s *Store) fenced(ctx context.Context, sc *script, lease mom.Lease, given args) error {
	_, err := s.leased(ctx, sc, lease, given)
	return err
}

// leased runs a transition that starts from a lease, whose ULID and epoch it adds to the arguments.
func (s *Store) leased(ctx context.Context, sc *script, lease mom.Lease, given args) (rueidis.RedisMessage, error) {
	given["ulid"], given["epoch"] = lease.ID.ULID.String(), epoch(lease)
	return s.run(ctx, sc, s.keysOf(lease.ID), given)
}
