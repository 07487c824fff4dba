package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/mom"
)

const (
	// largeAnswer is the size in bytes from which answers are large: all replies behind a larger one on the same connection wait for it.
	largeAnswer = 64 << 10
	// answerTime bounds the read of a large answer. Many may be read at once, and no call waits to be stored meanwhile.
	answerTime = 5 * time.Second
)

// Get implements mom.Store.
func (s *Store) Get(ctx context.Context, id contract.TaskID) (*momv1.Task, *momv1.Answer, error) {
	keys, name := s.keysOf(id), id.ULID.String()
	type record struct {
		fields map[string]string
		size   int64 // of the answer
	}
	stored, err := query(ctx, s, s.sharesOf(keys).callers, func(ctx context.Context, client rueidis.Client) (r record, err error) {
		// Two reads in one round trip. The record is read first: an answer that is stored between
		// the two reads is ignored.
		replies := client.DoMulti(ctx,
			client.B().Hgetall().Key(keys.task(name)).Build(),
			client.B().Strlen().Key(keys.answer(name)).Build())
		if r.fields, err = replies[0].AsStrMap(); err != nil {
			return r, s.judge(err)
		}
		r.size, err = replies[1].AsInt64()
		return r, s.judge(err)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("get: %w", err)
	}
	if len(stored.fields) == 0 {
		return nil, nil, mom.ErrNotFound
	}
	task, err := readTask(id, stored.fields)
	if err != nil {
		return nil, nil, fmt.Errorf("get: %w", err)
	}
	if !contract.IsAnswered(task.State) || stored.size == 0 {
		return task, nil, nil
	}
	answer, err := s.answer(ctx, keys, name, stored.size >= largeAnswer)
	if err != nil {
		return nil, nil, fmt.Errorf("get: %w", err)
	}
	return task, answer, nil
}

// answer reads the answer of a task, or nil if there is none any more. A large one comes over a connection of its own, and few do at once.
func (s *Store) answer(ctx context.Context, keys *shardKeys, ulid string, large bool) (*momv1.Answer, error) {
	share := s.sharesOf(keys).callers
	if large {
		share = s.sharesOf(keys).answers
	}
	return query(ctx, s, share, func(ctx context.Context, client rueidis.Client) (*momv1.Answer, error) {
		get := client.B().Get().Key(keys.answer(ulid)).Build()
		if large {
			// If the reply stops midway, nothing else is asked on this connection that would show it, and the place would stay taken. At the end of the
			// time rueidis closes the connection.
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, answerTime)
			defer cancel()
			get = client.B().Arbitrary("GET").Keys(keys.answer(ulid)).Blocking() // rueidis sends what blocks over another connection
		}
		raw, err := client.Do(ctx, get).AsBytes()
		if err != nil {
			return nil, s.judge(err) // nil for what is not there
		}
		answer := new(momv1.Answer)
		return answer, proto.Unmarshal(raw, answer)
	})
}

// readTask reads the fields that shared/core.lua lists.
func readTask(id contract.TaskID, fields map[string]string) (*momv1.Task, error) {
	if v, err := strconv.Atoi(fields["v"]); err != nil || v < 1 || v > mom.NewestRecord { // as load in shared/core.lua
		return nil, fmt.Errorf("%w: %q of task %s", mom.ErrRecordVersion, fields["v"], id)
	}
	created, answerUntil := readTime(fields["c"]), readTime(fields["a"])
	if born := strings.Fields(fields["B"]); len(born) == 5 { // see shared/core.lua
		created = readTime(born[4])
		if ended, keep := readTime(fields["z"]), readTime(born[2]); contract.IsAnswered(readState(fields["s"])) && ended != nil && keep != nil {
			answerUntil = timestamppb.New(ended.AsTime().Add(time.Duration(keep.AsTime().UnixMilli()) * time.Millisecond))
		}
	}
	attempts, _ := strconv.ParseInt(fields["n"], 10, 32)
	earlier, _ := strconv.ParseInt(fields["q"], 10, 32) // missing: 0
	return &momv1.Task{
		Id:               id.String(),
		Procedure:        fields["p"],
		Caller:           fields["u"],
		State:            readState(fields["s"]),
		Attempts:         int32(attempts),
		Cause:            fields["h"],
		LastFailure:      fields["f"],
		CreateTime:       created,
		ExpireTime:       readTime(fields["x"]),
		NextAttemptTime:  readTime(fields["d"]),
		EndTime:          readTime(fields["z"]),
		AnswerExpireTime: answerUntil,
		DismissTime:      readTime(fields["y"]),
		EarlierAttempts:  int32(earlier),
	}, nil
}

// readState reads a state. It returns UNSPECIFIED for a text that is no number.
func readState(s string) momv1.TaskState {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return momv1.TaskState_TASK_STATE_UNSPECIFIED
	}
	return momv1.TaskState(n)
}

// readTime returns nil when the time is missing.
func readTime(ms string) *timestamppb.Timestamp {
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return nil
	}
	return timestamppb.New(time.UnixMilli(n))
}
