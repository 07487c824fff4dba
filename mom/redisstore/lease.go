package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/redis/rueidis"
	"google.golang.org/protobuf/proto"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/mom"
)

// Lease implements mom.Store.
func (s *Store) Lease(ctx context.Context, shard mom.Shard, room mom.Room, d time.Duration) (leases []mom.Lease, more bool, err error) {
	if room.Tasks < 1 {
		return nil, true, nil
	}
	lease := &asked{kind: aLease, argv: roomFor(room, millis(d))}
	reply, err := s.keys(shard).turns.run(ctx, lease)
	return s.readLeases(ctx, shard, lease, reply, err)
}

// roomFor returns the arguments of a lease, in the order in which turns.arguments reads them. The last argument is its epoch, which no other lease has.
func roomFor(room mom.Room, duration string) []string {
	again := room.Again
	if room.Fresh {
		again = -1
	}
	return []string{strconv.Itoa(room.Tasks), strconv.Itoa(again), strconv.Itoa(room.Once), duration, strconv.FormatInt(1+rand.Int64N(maxEpoch), 10)}
}

// maxEpoch is so small that Lua can represent all whole numbers up to it, and some beyond it, exactly.
const maxEpoch = 1 << 52

// takeBack gives back the tasks that a turn has leased whose reply was lost. It does so once Redis answers, and again a little later: Redis may still run a
// command from the closed connection after that. If Redis does not answer for as long as leases last, the leases have ended by themselves.
func (t *turns) takeBack(epoch string) {
	until := time.Now().Add(mom.LongestLease)
	for pause, times := 100*time.Millisecond, 2; times > 0 && time.Now().Before(until); pause = min(2*pause, time.Second) {
		select {
		case <-t.store.link.closed:
			return
		case <-time.After(pause):
		}
		if t.store.do(context.Background(), takeBackScript, t.keys, args{"epoch": epoch, "tombstone": t.store.tombstone()}) == nil {
			times--
		}
	}
}

// readLeases reads the reply of lease.lua. A task whose stored call cannot be read is parked as DEAD, since it
// would come back again and again.
func (s *Store) readLeases(ctx context.Context, shard mom.Shard, lease *asked, reply rueidis.RedisMessage, err error) (leases []mom.Lease, more bool, _ error) {
	if err != nil {
		return nil, true, fmt.Errorf("lease: %w", err)
	}
	rows, err := reply.ToArray()
	if err != nil || len(rows) == 0 {
		return nil, true, fmt.Errorf("lease: unexpected reply: %w", err)
	}
	last, err := rows[len(rows)-1].AsInt64()
	if err != nil {
		return nil, true, fmt.Errorf("lease: %w", err)
	}
	if len(rows) == 2 && !rows[0].IsArray() {
		return nil, true, &mom.LimitedError{Wait: time.Duration(last) * time.Millisecond}
	}
	more = last == 1
	leases = make([]mom.Lease, 0, len(rows)-1)
	var errs []error
	for _, row := range rows[:len(rows)-1] {
		one, err := readLease(shard, row, lease)
		if err == nil {
			leases = append(leases, one)
			continue
		}
		s.once.Log(slog.LevelError, "unreadable "+shard.Service, "a stored call cannot be read", "task", one.ID.String(), "error", err)
		if _, err := s.PassOver(context.WithoutCancel(ctx), one, "cannot be sent: the stored call cannot be read", 0); err != nil {
			errs = append(errs, err)
		}
	}
	if len(leases) > 0 {
		// A task that could not be parked comes back when its lease ends.
		return leases, more, nil
	}
	return nil, more, errors.Join(errs...)
}

// readLease reads the lease of one task. by is the transition that asked for the lease; the task may have been stored in the same turn.
func readLease(shard mom.Shard, row rueidis.RedisMessage, by *asked) (mom.Lease, error) {
	fields, err := row.ToArray()
	if err != nil || len(fields) != 6 {
		return mom.Lease{}, fmt.Errorf("unexpected reply: %w", err)
	}
	name, _ := fields[0].ToString()
	epoch, _ := strconv.ParseInt(by.argv[4], 10, 64)
	attempts, _ := fields[1].AsInt64()
	repeatable, _ := fields[2].AsInt64()
	remaining, _ := fields[3].AsInt64()
	putBack, _ := fields[5].AsInt64()
	lease := mom.Lease{
		ID:         contract.TaskID{Service: shard.Service, Shard: shard.Index},
		Epoch:      epoch,
		Attempts:   int(attempts),
		PutBack:    int(putBack),
		Repeatable: repeatable == 1,
		Remaining:  time.Duration(remaining) * time.Millisecond,
	}
	if lease.ID.ULID, err = ulid.ParseStrict(name); err != nil {
		return lease, err
	}
	if fields[4].IsNil() {
		return lease, errors.New("it is missing")
	}
	call, err := fields[4].AsBytes()
	if err != nil {
		return lease, err
	}
	if own := slices.IndexFunc(by.with, func(a *asked) bool { return a.call != nil && a.argv[0] == name }); len(call) == 0 && own >= 0 {
		lease.Call, lease.Size = by.with[own].call, by.with[own].bytes
		return lease, nil
	}
	lease.Call, lease.Size = new(momv1.Call), len(call)
	return lease, proto.Unmarshal(call, lease.Call)
}

// Renew implements mom.Store.
func (s *Store) Renew(ctx context.Context, shard mom.Shard, leases []mom.Lease, d time.Duration) ([]mom.Lease, error) {
	if len(leases) == 0 {
		return nil, nil
	}
	each := make([]string, 0, 2*len(leases))
	for _, lease := range leases {
		each = append(each, lease.ID.ULID.String(), epoch(lease))
	}
	reply, err := s.run(ctx, renewScript, s.keys(shard), args{"duration": millis(d)}, each...)
	if err != nil {
		return nil, err
	}
	positions, err := reply.AsIntSlice()
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	var lost []mom.Lease
	for _, position := range positions {
		lost = append(lost, leases[position-1])
	}
	return lost, nil
}
