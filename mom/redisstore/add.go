package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/redis/rueidis"
	"google.golang.org/protobuf/proto"

	momv1 "holdline/gen/mom/v1"
	"holdline/mom"
)

// Add implements mom.Store. It returns ErrQueueFull also when Redis uses over 80% of its maxmemory.
func (s *Store) Add(ctx context.Context, task mom.NewTask) (mom.Added, error) {
	if task.TTL <= 0 || task.AnswerTTL <= 0 {
		return mom.Added{}, errors.New("add: a task needs a TTL and an answer TTL")
	}
	call, err := proto.MarshalOptions{Deterministic: true}.Marshal(task.Call)
	if err != nil {
		return mom.Added{}, fmt.Errorf("add: %w", err)
	}
	// The shards in which earlier numbers of shards placed this task. The task may be stored in one of them already.
	// Nobody can add it there any more: these shards are closed to tasks that are placed by earlier numbers.
	for _, shard := range task.Earlier {
		earlier := task
		earlier.ID.Shard = shard
		if added, err := s.add(ctx, earlier, call, true); err != nil || added.ID.Service != "" {
			return added, err
		}
	}
	return s.add(ctx, task, call, false)
}

// add adds a task to the shard that its ID names. With onlyKnown it adds no new task, and returns
// a zero Added when the shard does not have the task.
func (s *Store) add(ctx context.Context, task mom.NewTask, call []byte, onlyKnown bool) (mom.Added, error) {
	reply, err := s.keysOf(task.ID).turns.run(ctx, askToAdd(task, call, onlyKnown))
	if err != nil {
		return mom.Added{}, fmt.Errorf("add: %w", err)
	}
	return s.readAdded(ctx, task, reply)
}

func askToAdd(task mom.NewTask, call []byte, onlyKnown bool) *asked {
	ttl := millis(task.TTL)
	argv := []string{ // as shared/add.lua lists them
		task.ID.ULID.String(), strconv.FormatInt(task.Epoch, 10), flag(onlyKnown),
		strconv.FormatUint(uint64(max(task.Call.GetRecordVersion(), mom.BornRecordVersion)), 10),
		ttl, flag(task.Repeatable) + flag(task.Waits) + flag(task.Kept) + " " + strconv.FormatInt(task.Offer, 10) + " " + millis(task.AnswerTTL) + " " + ttl + " ",
		task.Call.GetProcedure(), task.Call.GetCaller(), shorten(task.Cause), rueidis.BinaryString(call), task.KeyHash,
	}
	if task.KeyHash != "" {
		argv = append(argv, task.Fingerprint, task.Twin, task.Schema, task.Known, flag(task.JSON))
	}
	return &asked{kind: anAdd, argv: argv, call: task.Call, bytes: len(call), until: task.Until}
}

// readAdded reads what add.lua returns for a task.
func (s *Store) readAdded(ctx context.Context, task mom.NewTask, reply rueidis.RedisMessage) (mom.Added, error) {
	if expires, err := reply.AsInt64(); err == nil && reply.IsInt64() {
		return mom.Added{ID: task.ID, ExpireTime: time.UnixMilli(expires)}, nil
	}
	words, err := reply.AsStrSlice()
	if err != nil || len(words) == 0 {
		return mom.Added{}, fmt.Errorf("add: unexpected reply: %w", err)
	}
	switch words[0] {
	case "NONE":
		return mom.Added{}, nil
	case "MOVED":
		if !task.Until.IsZero() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, task.Until)
			defer cancel()
		}
		s.reconcile(ctx, mom.ShardOf(task.ID), words[1])
		return mom.Added{}, mom.ErrMoved
	case "REUSED":
		return mom.Added{}, readReused(words[1:])
	case "FULL":
		return mom.Added{}, fmt.Errorf("%w: %s", mom.ErrQueueFull, words[1])
	case "ATTACHED":
		other, err := ulid.ParseStrict(words[1])
		if err != nil {
			return mom.Added{}, fmt.Errorf("add: the key names no task: %w", err)
		}
		id := task.ID
		id.ULID = other
		return mom.Added{ID: id, Attached: true}, nil
	}
	s.keysOf(task.ID).bell.ring() // the MOM that stored the task may be dead
	return mom.Added{ID: task.ID, Known: true, ExpireTime: readTime(words[1]).AsTime()}, nil
}

// readReused reads the reply of add.lua about the request that a key names.
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
