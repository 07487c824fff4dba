package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/redis/rueidis"
	"google.golang.org/protobuf/types/known/timestamppb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/mom"
)

const (
	pageSize = 200
	maxPages = 10 // maximum number of pages that one List reads
	// maxIndexed is how many ULIDs are read to find tasks by their states: this many take Redis a few milliseconds.
	maxIndexed = 10_000
)

// List implements mom.Store. It reads page by page until it has found enough tasks, or has read maxPages. Each command has its
// CommandTimeout, and all together have what ctx gives. When a page cannot be read in time, List returns what the pages before
// it had; without one it is an error.
func (s *Store) List(ctx context.Context, shard mom.Shard, caller, before string, limit int, states []momv1.TaskState) (found []*momv1.Task, next string, err error) {
	indexed, ok, err := s.indexed(ctx, shard, before, states)
	if err != nil {
		return nil, "", fmt.Errorf("list: %w", err)
	}
	for n := range maxPages {
		var page page
		if ok {
			size := min(len(indexed), pageSize)
			page.names, indexed = indexed[:size], indexed[size:]
			page.more = len(indexed) > 0
		} else {
			page, err = s.page(ctx, shard, caller, before)
		}
		var tasks []*momv1.Task
		if err == nil {
			tasks, err = s.read(ctx, shard, caller, page.names)
		}
		if n > 0 && errors.Is(err, mom.ErrUnavailable) {
			return found, before, nil // what was read is no worse for it
		}
		if err != nil {
			return nil, "", fmt.Errorf("list: %w", err)
		}
		for _, task := range tasks {
			if task.GetCaller() != caller || len(states) > 0 && !slices.Contains(states, task.State) {
				continue
			}
			if len(found) == limit {
				id := found[limit-1].GetId()
				return found, id[len(id)-ulid.EncodedSize:], nil
			}
			found = append(found, task)
		}
		if !page.more {
			return found, "", nil
		}
		before = page.names[len(page.names)-1]
	}
	return found, before, nil
}

// page is a part of a list: ULIDs, newest first.
type page struct {
	names []string
	more  bool // there may be older ones
}

// page reads a part of a caller's list, from before on to older tasks.
func (s *Store) page(ctx context.Context, shard mom.Shard, caller, before string) (page, error) {
	keys, upTo := s.keys(shard), "+"
	if before != "" {
		upTo = "(" + before
	}
	return query(ctx, s, s.sharesOf(keys).callers, func(ctx context.Context, client rueidis.Client) (p page, err error) {
		p.names, err = client.Do(ctx, client.B().Zrevrangebylex().Key(keys.callers(caller)).
			Max(upTo).Min("-").Limit(0, pageSize).Build()).AsStrSlice()
		p.more = len(p.names) == pageSize
		return p, s.judge(err)
	})
}

// read reads tasks of a caller, or of others. It leaves out tasks whose records have expired. If a record cannot be read, the list has the task with its id and without a state,
// so that this record does not hide the other tasks.
func (s *Store) read(ctx context.Context, shard mom.Shard, caller string, names []string) ([]*momv1.Task, error) {
	if len(names) == 0 {
		return nil, nil
	}
	keys := s.keys(shard)
	return query(ctx, s, s.sharesOf(keys).callers, func(ctx context.Context, client rueidis.Client) (tasks []*momv1.Task, err error) {
		reads := make(rueidis.Commands, len(names))
		for i, name := range names {
			reads[i] = client.B().Hgetall().Key(keys.task(name)).Build()
		}
		for i, reply := range client.DoMulti(ctx, reads...) {
			fields, err := reply.AsStrMap()
			if err = s.judge(err); err != nil && !errors.Is(err, errDefect) {
				return nil, err
			}
			if err == nil && len(fields) == 0 {
				continue // reap has not yet removed it from the list
			}
			id := contract.TaskID{Service: shard.Service, Shard: shard.Index}
			if id.ULID, err = ulid.ParseStrict(names[i]); err != nil {
				return nil, err
			}
			task, err := readTask(id, fields)
			if err != nil {
				task = &momv1.Task{Id: id.String(), Caller: caller, CreateTime: timestamppb.New(id.ULID.Timestamp()), LastFailure: "its record cannot be read here"}
			}
			tasks = append(tasks, task)
		}
		return tasks, nil
	})
}

// indexed returns the ULIDs, newest first, of all tasks that may be in one of the states. It returns false if a queue, or too many other tasks, would have to be read
// for that. So the few tasks that have failed are found among a million tasks that wait.
func (s *Store) indexed(ctx context.Context, shard mom.Shard, before string, states []momv1.TaskState) (names []string, ok bool, err error) {
	var running, retrying, parked, gone bool
	for _, state := range states {
		switch state {
		case momv1.TaskState_TASK_STATE_RUNNING:
			running = true
		case momv1.TaskState_TASK_STATE_RETRYING:
			retrying = true
		case momv1.TaskState_TASK_STATE_DEAD, momv1.TaskState_TASK_STATE_UNCERTAIN:
			parked, gone = true, true // tasks that were given up are in gone
		case momv1.TaskState_TASK_STATE_SUCCEEDED, momv1.TaskState_TASK_STATE_FAILED,
			momv1.TaskState_TASK_STATE_CANCELLED, momv1.TaskState_TASK_STATE_EXPIRED:
			gone = true
		default:
			return nil, false, nil
		}
	}
	if len(states) == 0 {
		return nil, false, nil
	}
	keys := s.keys(shard)
	names, err = query(ctx, s, s.sharesOf(keys).callers, func(ctx context.Context, client rueidis.Client) ([]string, error) {
		var sizes, reads rueidis.Commands
		set := func(needed bool, name string) {
			if needed {
				key := keys.base + name
				sizes = append(sizes, client.B().Zcard().Key(key).Build())
				reads = append(reads, client.B().Zrange().Key(key).Min("0").Max("-1").Build())
			}
		}
		set(running, "lease")
		set(retrying, "later")
		set(gone, "gone")
		if parked {
			sizes = append(sizes, client.B().Llen().Key(keys.base+"dead").Build())
			reads = append(reads, client.B().Lrange().Key(keys.base+"dead").Start(0).Stop(-1).Build())
		}
		var all int64
		for _, reply := range client.DoMulti(ctx, sizes...) {
			size, err := reply.AsInt64()
			if err != nil {
				return nil, s.judge(err)
			}
			all += size
		}
		if all > maxIndexed {
			return nil, nil
		}
		names := []string{}
		for _, reply := range client.DoMulti(ctx, reads...) {
			some, err := reply.AsStrSlice()
			if err != nil {
				return nil, s.judge(err)
			}
			for _, entry := range some {
				if len(entry) < ulid.EncodedSize {
					continue // a hole in dead
				}
				if name := entry[:ulid.EncodedSize]; before == "" || name < before { // in gone, the caller follows
					names = append(names, name)
				}
			}
		}
		slices.SortFunc(names, func(a, b string) int { return strings.Compare(b, a) })
		return slices.Compact(names), nil
	})
	return names, names != nil, err
}
