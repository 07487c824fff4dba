package redisstore_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/mom"
)

// A list of tasks in some states is that of all tasks without those in other states, page by page.
func TestListByState(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		for _, lead := range []func(lease mom.Lease){
			func(l mom.Lease) { e.ok(e.Settle(e.ctx, l, success("done"))) },
			func(l mom.Lease) { e.ok(e.Settle(e.ctx, l, failure("no"))) },
			func(l mom.Lease) { _, err := e.Spend(e.ctx, l, "reset", time.Hour, 9); e.ok(err) },
			func(l mom.Lease) { _, err := e.Spend(e.ctx, l, "reset", time.Hour, 1); e.ok(err) },
			func(l mom.Lease) {
				_, err := e.Spend(e.ctx, l, "reset", time.Hour, 1)
				e.ok(err)
				e.ok(e.Dismiss(e.ctx, l.ID))
			},
			func(l mom.Lease) { e.ok(e.Park(e.ctx, l, "cut off")) },
			func(l mom.Lease) { e.ok(e.Release(e.ctx, l)); e.ok(e.Cancel(e.ctx, l.ID)) },
			func(mom.Lease) {},
		} {
			for _, caller := range []string{"somebody else", e.caller, e.caller} {
				e.add(func(task *mom.NewTask) { task.Call.Caller = caller })
				lead(e.lease())
			}
		}
		e.add()
		all, next, err := e.List(e.ctx, e.shard, e.caller, "", 100, nil)
		if err != nil || len(all) != 17 || next != "" {
			t.Fatalf("all: got %d, %q, %v, want 17", len(all), next, err)
		}
		for _, states := range [][]momv1.TaskState{
			{queued}, {running}, {retrying}, {dead}, {uncertain}, {succeeded}, {failed}, {cancelled}, {expired},
			{dead, uncertain}, {running, retrying, dead}, {queued, cancelled}, {running, retrying, dead, uncertain, succeeded, failed, cancelled, expired},
		} {
			var want, got []string
			for _, task := range all {
				if slices.Contains(states, task.State) {
					want = append(want, task.Id)
				}
			}
			for before := ""; ; {
				page, next, err := e.List(e.ctx, e.shard, e.caller, before, 2, states)
				e.ok(err)
				for _, task := range page {
					got = append(got, task.Id)
				}
				if before = next; next == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%v: got %v, want %v", states, got, want)
			}
		}
	})
}

// A record that cannot be read does not hide the tasks beside it: it is listed with its id, in no state.
func TestListBesideABadRecord(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		first, newer, damaged, last := e.add(), e.add(), e.add(), e.add()
		e.setVersion(newer, unknownVersion)
		record := e.key("t:" + damaged.ULID.String())
		e.ok(e.do("DEL", record).Error())
		e.ok(e.do("SET", record, "of another program").Error())
		tasks, _, err := e.List(e.ctx, e.shard, e.caller, "", 100, nil)
		e.ok(err)
		states := map[string]momv1.TaskState{}
		for _, task := range tasks {
			states[task.GetId()] = task.GetState()
			if task.GetState() == 0 && (task.GetLastFailure() == "" || task.GetCreateTime() == nil) {
				t.Errorf("%v does not say what is wrong", task)
			}
		}
		want := map[string]momv1.TaskState{first.String(): queued, last.String(): queued, newer.String(): 0, damaged.String(): 0}
		if !maps.Equal(states, want) {
			t.Errorf("got %v, want %v", states, want)
		}
	})
}

// What was read of a list counts when its time is over, and the next list goes on from there.
func TestListOutOfTime(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		const n = 250 // two pages
		for range n {
			e.add()
		}
		for commands, want := range []int{0, 0, 200, 200, n} {
			late := &endsAfter{Context: e.ctx, left: commands}
			tasks, next, err := e.List(late, e.shard, e.caller, "", 1000, []momv1.TaskState{queued})
			if len(tasks) != want || (err != nil) != (want == 0) || err != nil && !errors.Is(err, mom.ErrUnavailable) {
				t.Errorf("after %d commands: got %d tasks, %v, want %d", commands, len(tasks), err, want)
			}
			if want == 0 || want == n {
				continue
			}
			rest, next, err := e.List(e.ctx, e.shard, e.caller, next, 1000, []momv1.TaskState{queued})
			if len(rest) != n-want || next != "" || err != nil {
				t.Errorf("after %d commands: got %d others, %q, %v, want %d", commands, len(rest), next, err, n-want)
			}
		}
	})
}

// endsAfter is a context that ends after some commands.
type endsAfter struct {
	context.Context
	left int
}

func (c *endsAfter) Err() error {
	if c.left--; c.left < 0 {
		return context.DeadlineExceeded
	}
	return nil
}
