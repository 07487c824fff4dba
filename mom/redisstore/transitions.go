package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
	"github.com/redis/rueidis"
	"google.golang.org/protobuf/proto"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/mom"
)

// maxText keeps a text short enough for a listpack, whose limit is 64 bytes.
const maxText = 60

// Add implements mom.Store. A Redis at four fifths of its maxmemory is a full queue.
func (s *Store) Add(ctx context.Context, task mom.NewTask) (mom.Added, error) {
	if task.TTL <= 0 || task.AnswerTTL <= 0 {
		return mom.Added{}, errors.New("add: a task needs a TTL and an answer TTL")
	}
	call, err := proto.MarshalOptions{Deterministic: true}.Marshal(task.Call)
	if err != nil {
		return mom.Added{}, fmt.Errorf("add: %w", err)
	}
	// Where it was placed by an earlier number. None of these shards can get it any
	// more: they are closed to tasks that are placed by that number.
	for _, shard := range task.Earlier {
		earlier := task
		earlier.ID.Shard = shard
		if added, err := s.add(ctx, earlier, call, true); err != nil || added.ID.Service != "" {
			return added, err
		}
	}
	return s.add(ctx, task, call, false)
}

// add adds a task to the shard that its ID says. With onlyKnown it adds nothing, and
// returns nothing for a task that is not there.
func (s *Store) add(ctx context.Context, task mom.NewTask, call []byte, onlyKnown bool) (mom.Added, error) {
	keys := s.keysOf(task.ID)
	memory := keys.memory.known(s.cfg.Embedded)
	reply, err := s.run(ctx, addScript, keys, args{
		"ulid":        task.ID.ULID.String(),
		"ttl":         millis(task.TTL),
		"answer_ttl":  millis(task.AnswerTTL),
		"max_queued":  strconv.Itoa(s.cfg.MaxQueued),
		"max_bytes":   strconv.FormatInt(s.cfg.MaxBytes, 10),
		"memory":      memory,
		"placed_by":   strconv.FormatInt(task.Epoch, 10),
		"only_known":  flag(onlyKnown),
		"version":     strconv.FormatUint(uint64(max(task.Call.GetRecordVersion(), 1)), 10),
		"procedure":   task.Call.GetProcedure(),
		"caller":      task.Call.GetCaller(),
		"cause":       shorten(task.Cause),
		"repeatable":  flag(task.Repeatable),
		"kept":        flag(task.Kept),
		"offer":       strconv.FormatInt(task.Offer, 10),
		"call":        rueidis.BinaryString(call),
		"key_hash":    task.KeyHash,
		"fingerprint": task.Fingerprint,
		"schema":      task.Schema,
		"known":       task.Known,
		"json":        mark(task.JSON),
		"twin":        task.Twin,
	})
	if err != nil {
		return mom.Added{}, err
	}
	words, err := reply.AsStrSlice()
	if err != nil || len(words) == 0 {
		return mom.Added{}, fmt.Errorf("add: unexpected reply: %w", err)
	}
	switch words[0] {
	case "NONE":
		return mom.Added{}, nil
	case "MOVED":
		s.reconcile(ctx, mom.ShardOf(task.ID), words[1])
		return mom.Added{}, mom.ErrMoved
	case "REUSED":
		return mom.Added{}, readReused(words[1:])
	case "FULL":
		full := fmt.Errorf("%w: %s", mom.ErrQueueFull, words[1])
		if words[1] == "memory" {
			keys.memory.full.Store(true)
		}
		return mom.Added{}, full
	case "ATTACHED":
		other, err := ulid.ParseStrict(words[1])
		if err != nil {
			return mom.Added{}, fmt.Errorf("add: the key names no task: %w", err)
		}
		id := task.ID
		id.ULID = other
		return mom.Added{ID: id, Attached: true}, nil
	}
	known := words[0] == "KNOWN"
	if memory == "look" && !known {
		keys.memory.full.Store(false)
	}
	return mom.Added{ID: task.ID, Known: known, ExpireTime: readTime(words[1]).AsTime()}, nil
}

// readReused reads what add.lua says of the request that a key names.
func readReused(words []string) error {
	if len(words) < 5 {
		return errors.New("add: unexpected reply")
	}
	reused := &mom.KeyReusedError{First: mom.Request{Fingerprint: words[0], Schema: words[1], Known: words[2], JSON: words[3] != ""}}
	if call := new(momv1.Call); words[4] != "" && proto.Unmarshal([]byte(words[4]), call) == nil {
		reused.Call = call
	}
	return reused
}

// memory is what is known of a server's memory. To look costs Redis more than an
// add does, so it is done now and then.
type memory struct {
	looked atomic.Int64 // when, in ns of clock
	full   atomic.Bool
}

const memoryLook = 250 * time.Millisecond

// clock began before the process, so that a first look is due at once. Unlike the
// time of day it is never set back, which would put off the next look.
var clock = time.Now().Add(-time.Hour)

// known is the argument of add.lua.
func (m *memory) known(embedded bool) string {
	if embedded {
		return "" // it has no limit
	}
	now, looked := int64(time.Since(clock)), m.looked.Load()
	switch {
	case now-looked > int64(memoryLook) && m.looked.CompareAndSwap(looked, now):
		return "look"
	case m.full.Load():
		return "full"
	}
	return ""
}

// Lease implements mom.Store. A task whose stored call cannot be read would
// come back for ever; it is parked as DEAD.
func (s *Store) Lease(ctx context.Context, shard mom.Shard, room mom.Room, d time.Duration) ([]mom.Lease, error) {
	if room.Tasks < 1 {
		return nil, nil
	}
	reply, err := s.run(ctx, leaseScript, s.keys(shard), args{
		"n":         strconv.Itoa(room.Tasks),
		"duration":  millis(d),
		"tombstone": s.tombstone(),
		"again":     strconv.Itoa(room.Again),
		"once":      strconv.Itoa(room.Once),
	})
	if err != nil {
		return nil, err
	}
	rows, err := reply.ToArray()
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	if len(rows) == 2 && !rows[0].IsArray() {
		wait, err := rows[1].AsInt64()
		if err != nil {
			return nil, fmt.Errorf("lease: %w", err)
		}
		return nil, &mom.LimitedError{Wait: time.Duration(wait) * time.Millisecond}
	}
	leases := make([]mom.Lease, 0, len(rows))
	var errs []error
	for _, row := range rows {
		lease, err := readLease(shard, row)
		if err == nil {
			leases = append(leases, lease)
			continue
		}
		s.log.Error("a stored call cannot be read", "task", lease.ID.String(), "error", err)
		if _, err := s.PassOver(ctx, lease, "cannot be sent: the stored call cannot be read", 0); err != nil {
			errs = append(errs, err)
		}
	}
	if len(leases) > 0 {
		// What could not be parked comes back when its lease ends.
		return leases, nil
	}
	return nil, errors.Join(errs...)
}

func readLease(shard mom.Shard, row rueidis.RedisMessage) (mom.Lease, error) {
	fields, err := row.ToArray()
	if err != nil || len(fields) < 5 {
		return mom.Lease{}, fmt.Errorf("unexpected reply: %w", err)
	}
	name, _ := fields[0].ToString()
	epoch, _ := fields[1].AsInt64()
	attempts, _ := fields[2].AsInt64()
	repeatable, _ := fields[3].AsInt64()
	remaining, _ := fields[4].AsInt64()
	lease := mom.Lease{
		ID:         contract.TaskID{Service: shard.Service, Shard: shard.Index},
		Epoch:      epoch,
		Attempts:   int(attempts),
		Repeatable: repeatable == 1,
		Remaining:  time.Duration(remaining) * time.Millisecond,
		Call:       new(momv1.Call),
	}
	if lease.ID.ULID, err = ulid.ParseStrict(name); err != nil {
		return lease, err
	}
	if len(fields) > 6 {
		times, _ := fields[6].AsInt64()
		lease.PutBack = int(times)
	}
	if len(fields) < 6 || fields[5].IsNil() {
		return lease, errors.New("it is missing")
	}
	call, err := fields[5].ToString()
	if err != nil {
		return lease, err
	}
	return lease, proto.Unmarshal([]byte(call), lease.Call)
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
		"state":     strconv.Itoa(int(state)),
		"answer":    rueidis.BinaryString(stored),
		"tombstone": s.tombstone(),
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
		"why":       shorten(why),
		"wait":      millis(wait),
		"all":       flag(all),
		"tombstone": s.tombstone(),
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

// Retry implements mom.Store.
func (s *Store) Retry(ctx context.Context, lease mom.Lease, failure string, backoff time.Duration, maxAttempts int) (momv1.TaskState, error) {
	word, err := s.status(ctx, retryScript, s.keysOf(lease.ID), args{
		"ulid":         lease.ID.ULID.String(),
		"epoch":        epoch(lease),
		"failure":      shorten(failure),
		"backoff":      millisOrNone(backoff),
		"max_attempts": strconv.Itoa(maxAttempts),
		"tombstone":    s.tombstone(),
	})
	switch {
	case err != nil:
		return momv1.TaskState_TASK_STATE_UNSPECIFIED, err
	case word == "FENCED":
		return momv1.TaskState_TASK_STATE_UNSPECIFIED, mom.ErrFenced
	}
	return readState(word), nil
}

// later runs a transition by which a leased task waits, and returns for how long.
func (s *Store) later(ctx context.Context, sc *script, lease mom.Lease, given args) (time.Duration, error) {
	given["ulid"], given["epoch"] = lease.ID.ULID.String(), epoch(lease)
	reply, err := s.run(ctx, sc, s.keysOf(lease.ID), given)
	if err != nil {
		return 0, err
	}
	if word, err := reply.ToString(); err == nil && word == "FENCED" {
		return 0, mom.ErrFenced
	}
	due, err := reply.AsInt64()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", sc.name, err)
	}
	return time.Duration(due) * time.Millisecond, nil
}

// fenced runs a transition that starts from a lease.
func (s *Store) fenced(ctx context.Context, sc *script, lease mom.Lease, given args) error {
	given["ulid"], given["epoch"] = lease.ID.ULID.String(), epoch(lease)
	word, err := s.status(ctx, sc, s.keysOf(lease.ID), given)
	switch {
	case err != nil:
		return err
	case word == "FENCED":
		return mom.ErrFenced
	}
	return nil
}

func (s *Store) tombstone() string { return millis(s.cfg.TombstoneTTL) }

func epoch(lease mom.Lease) string { return strconv.FormatInt(lease.Epoch, 10) }

// millis is at least one: Redis refuses an expiry of none.
func millis(d time.Duration) string {
	return strconv.FormatInt(max(d.Milliseconds(), 1), 10)
}

// millisOrNone is millis where none is a number like any other.
func millisOrNone(d time.Duration) string {
	return strconv.FormatInt(max(d, 0).Milliseconds(), 10)
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// mark is 1, or empty where there is nothing to be kept.
func mark(b bool) string {
	if b {
		return "1"
	}
	return ""
}

// shorten cuts a text to maxText bytes, between characters. Texts go into proto
// strings, which must be UTF-8.
func shorten(text string) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= maxText {
		return text
	}
	cut := maxText
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}
