package redisstore_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/mom"
)

// check compares what the store tells of each task and of the shard, and where the tasks lie.
func (w *world) check(r *rapid.T) {
	for _, id := range w.ids {
		t := w.m.tasks[id]
		got, answer, err := w.Get(w.ctx, id)
		switch {
		case t == nil && word(err) != mom.ErrNotFound.Error():
			r.Fatalf("%s is gone: got %v, %v", id, got, err)
		case t == nil:
			continue
		case err != nil:
			r.Fatalf("%s is %v: got %v", id, t.state, err)
		}
		if want := t.view(w.caller); !proto.Equal(got, want) {
			r.Fatalf("task:\ngot  %v\nwant %v", got, want)
		}
		if !proto.Equal(answer, t.answer) {
			r.Fatalf("answer of %s: got %v, want %v", id, answer, t.answer)
		}
		if got, want := w.exists("p:"+id.ULID.String()), t.until == 0; got != want {
			r.Fatalf("%s is %v: has its call: got %v, want %v", id, t.state, got, want)
		}
	}
	// Each task is checked once more after it is gone.
	w.ids = slices.DeleteFunc(w.ids, func(id contract.TaskID) bool { return w.m.tasks[id] == nil })

	if got, want := w.places(), w.m.places(); got != want {
		r.Fatalf("places:\ngot\n%s\nwant\n%s", got, want)
	}
	w.checkReads(r)
}

// checkReads compares what Depth and List tell of the shard.
func (w *world) checkReads(r *rapid.T) {
	depth, err := w.Depth(w.ctx, w.shard)
	want := mom.Depth{
		Queued: int64(len(w.m.in(queued))), Running: int64(len(w.m.in(running))), Retrying: int64(len(w.m.in(retrying))),
		Dead: int64(len(w.m.dead)), Paused: w.m.paused,
	}
	if at := slices.IndexFunc(w.m.ready, func(t *modelTask) bool { return t.state == queued }); at >= 0 {
		want.OldestWait = time.Duration(max(w.m.now-w.m.ready[at].order/1000, 0)) * time.Millisecond
	}
	want.Parked = w.m.parked()
	want.Bytes = want.Parked.Bytes
	for _, t := range w.m.open() {
		want.Bytes += size(t)
	}
	for _, t := range w.m.dead {
		if t.state == uncertain {
			want.Uncertain++
		}
	}
	if err != nil || depth != want {
		r.Fatalf("depth: got %+v, %v, want %+v", depth, err, want)
	}
	listed, _, err := w.List(w.ctx, w.shard, w.caller, "", 1000, nil)
	var got, list []string
	for _, task := range listed {
		got = append(got, task.GetId())
	}
	for id, t := range w.m.tasks {
		if _, ended := w.m.gone[id]; ended || t.until == 0 {
			list = append(list, id.String())
		}
	}
	slices.Sort(list)
	slices.Reverse(list)
	if err != nil || !slices.Equal(got, list) {
		r.Fatalf("list: got %v, %v, want %v", got, err, list)
	}
}

// view is what Get should show.
func (t *modelTask) view(caller string) *momv1.Task {
	at := func(ms int64, there bool) *timestamppb.Timestamp {
		if !there {
			return nil
		}
		return timestamppb.New(time.UnixMilli(ms))
	}
	return &momv1.Task{
		Id: t.id.String(), Procedure: t.call.GetProcedure(), Caller: caller, State: t.state, Attempts: int32(t.attempts),
		Cause: "dial-refused", LastFailure: t.failure,
		CreateTime: at(t.created, true), ExpireTime: at(t.expires, true), NextAttemptTime: at(t.next, t.state == retrying),
		EndTime: at(t.ended, t.ended > 0), AnswerExpireTime: at(t.answerUntil, t.answerUntil > 0),
		DismissTime: at(t.dismissed, t.dismissed > 0), EarlierAttempts: int32(t.earlier),
	}
}

// places tells which tasks are in which list, and with what time.
func (m *model) places() string {
	var ready, parked, lease, later, ttl, gone []string
	at := func(list *[]string, t *modelTask, ms int64) {
		*list = append(*list, fmt.Sprint(t.id.ULID, " ", ms))
	}
	for _, t := range m.ready {
		ready = append(ready, t.id.ULID.String())
	}
	for _, t := range m.dead {
		parked = append(parked, t.id.ULID.String())
	}
	for _, t := range m.open() {
		switch t.state {
		case running:
			at(&lease, t, t.lease)
		case retrying:
			at(&later, t, t.next)
		}
		if t.overdue {
			ttl = append(ttl, t.id.ULID.String()+" +Inf")
		} else {
			at(&ttl, t, t.expires)
		}
	}
	for id, until := range m.gone {
		gone = append(gone, fmt.Sprint(id.ULID, " anonymous ", until))
	}
	return placed(ready, parked, lease, later, ttl, gone)
}

func placed(ready, parked, lease, later, ttl, gone []string) string {
	for _, set := range [][]string{lease, later, ttl, gone} {
		slices.Sort(set) // their order is not compared here
	}
	return fmt.Sprintf("ready %q\ndead %q\nlease %q\nlater %q\nttl %q\ngone %q", ready, parked, lease, later, ttl, gone)
}

func (w *world) places() string {
	list := func(name string) []string {
		words, err := w.do("LRANGE", w.key(name), "0", "-1").AsStrSlice()
		w.ok(err)
		return words
	}
	set := func(name string) (members []string) {
		scores, err := w.do("ZRANGE", w.key(name), "0", "-1", "WITHSCORES").AsZScores()
		w.ok(err)
		for _, s := range scores {
			members = append(members, s.Member+" "+strconv.FormatFloat(s.Score, 'f', -1, 64))
		}
		return members
	}
	return placed(list("ready"), list("dead"), set("lease"), set("later"), set("ttl"), set("gone"))
}

func (w *world) exists(key string) bool {
	n, err := w.do("EXISTS", w.key(key)).AsInt64()
	w.ok(err)
	return n == 1
}

// wantNothingLeft ends all tasks, and checks that no key of the shard is left.
func (w *world) wantNothingLeft() {
	const aLongTime = int64(240 * time.Hour / time.Millisecond)
	w.m.mom = 0
	for range 5 { // sees leases, ends leases, then lives, then records
		w.setTime(w.m.now + aLongTime)
		_, err := w.Reap(w.ctx, w.shard)
		w.ok(err)
		w.m.reap()
		for _, t := range slices.Clone(w.m.dead) {
			w.ok(w.Cancel(w.ctx, t.id))
			w.ok(w.m.cancel(t.id))
		}
	}
	w.ok(w.do("DEL", w.key("paused")).Error())
	for _, key := range w.existing() {
		if strings.HasPrefix(w.cfg.Prefix+key, w.key("")) {
			w.r.Fatalf("left behind: %s", key)
		}
	}
}
