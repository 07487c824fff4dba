package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/wire"
	"holdline/mom"
)

const (
	// turnMost is the maximum number of new tasks in one turn, and also of other transitions: this many take Redis a millisecond or two.
	turnMost = 64
	// turnBytes is the maximum size of the arguments of all new tasks in one turn, and also of all other transitions. A single larger transition goes alone.
	turnBytes = 256 << 10
	// turnEnough: if this many transitions wait, the turn begins at once. Waiting for more would leave Redis idle.
	turnEnough = 16
)

// turns make the transitions of a shard together: while one script is under way, new requests for transitions wait, and the
// next script makes them all. So a transition that comes alone does not wait, and many transitions cost Redis and us little more than
// one. turns are safe for concurrent use.
type turns struct {
	store *Store
	keys  *shardKeys

	mu    sync.Mutex
	busy  bool
	adds  queue
	other queue // of all other transitions, which go first: they reduce the work that Redis has
	attendance
}

// queue has the transitions that wait for a turn, in the order in which they came.
type queue []*asked

// kind is the kind of a transition. turn.lua makes transitions in the order of the kinds.
type kind uint8

const (
	aMark kind = iota
	anEnd
	anAdd
	aLease
)

// asked is a transition that somebody has asked for.
type asked struct {
	kind  kind
	argv  []string // for a lease: see roomFor
	size  int
	call  *momv1.Call   // of a new task
	bytes int           // size of the stored call of a new task
	with  []*asked      // for a lease: the other transitions of the same turn
	until time.Time     // when run stops waiting, if that is before the CommandTimeout is over
	taken bool          // for a lease that waits for new tasks: a turn has taken it
	done  chan struct{} // closed when reply and err are set
	reply rueidis.RedisMessage
	err   error
}

// run makes a transition, and returns the script's reply to it. If ctx ends, or the time is over, before the script is sent, or if
// too many later transitions wait, the transition is surely not made. If a lease was sent already, run waits for it even then, since nobody else
// knows which tasks the lease takes.
func (t *turns) run(ctx context.Context, one *asked) (rueidis.RedisMessage, error) {
	most := t.store.cfg.CommandTimeout
	if !one.until.IsZero() {
		most = min(most, time.Until(one.until))
	}
	if err := ctx.Err(); err != nil || most <= 0 {
		return rueidis.RedisMessage{}, notSent(cmp.Or(err, context.DeadlineExceeded))
	}
	timer := wire.GetTimer(most) // a context with a deadline costs more than the rest of this
	defer wire.PutTimer(timer)
	one.done = make(chan struct{})
	for _, arg := range one.argv {
		one.size += len(arg)
	}
	waiting := &t.other
	if one.kind == anAdd {
		waiting = &t.adds
	}
	t.mu.Lock()
	waiting.push(one)
	if !t.busy {
		t.busy = true
		go t.work()
	}
	t.mu.Unlock()
	err := context.DeadlineExceeded
	select {
	case <-one.done:
		return one.reply, one.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
	}
	t.mu.Lock()
	removed := waiting.remove(one)
	t.mu.Unlock()
	switch {
	case removed:
		return rueidis.RedisMessage{}, notSent(err)
	case one.kind == aLease:
		<-one.done
		return one.reply, one.err
	}
	return rueidis.RedisMessage{}, fmt.Errorf("%w: redis: %w", mom.ErrUnavailable, err)
}

func (q *queue) push(one *asked) {
	*q = append(*q, one)
	if len(*q) > maxWaiting {
		(*q)[0].end(rueidis.RedisMessage{}, notSent(errCrowded))
		*q = slices.Delete(*q, 0, 1)
	}
}

func (q *queue) remove(one *asked) (there bool) {
	at := slices.Index(*q, one)
	if at >= 0 {
		*q = slices.Delete(*q, at, at+1)
	}
	return at >= 0
}

// take takes the transitions of the next turn, in the order in which they came. If not all of them fit, it takes the latest, which have
// the most time left: see places.
func (q *queue) take() []*asked {
	from, size := len(*q), 0
	for from > 0 && len(*q)-from < turnMost {
		if size += (*q)[from-1].size; size > turnBytes && from < len(*q) {
			break
		}
		from--
	}
	taken := slices.Clone((*q)[from:])
	*q = slices.Delete(*q, from, len(*q))
	return taken
}

func (a *asked) end(reply rueidis.RedisMessage, err error) {
	a.reply, a.err = reply, err
	close(a.done)
}

// work makes transitions until none is left.
func (t *turns) work() {
	for {
		t.mu.Lock()
		if len(t.adds)+len(t.other) < turnEnough {
			t.mu.Unlock()
			runtime.Gosched() // lets goroutines that are about to ask join this turn, without waiting for them
			t.mu.Lock()
		}
		others, later := oneLease(t.other.take())
		t.other = append(later, t.other...)
		adds := t.adds.take()
		if len(adds) > 0 {
			others = t.along(others)
		}
		batch := slices.Concat(others, adds)
		t.busy = len(batch) > 0
		attended := t.attended
		t.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		t.make(batch, attended)
	}
}

// oneLease leaves all leases but the first for later, since a turn has only one lease. Usually there is no other: a process has one replayer for each shard.
func oneLease(batch []*asked) (now, later []*asked) {
	leases := 0
	for _, one := range batch {
		if one.kind == aLease {
			leases++
		}
		if one.kind == aLease && leases > 1 {
			later = append(later, one)
		} else {
			now = append(now, one)
		}
	}
	return now, later
}

// arguments returns the script that makes some transitions, which are in the order of their kinds, and the arguments for it.
func (t *turns) arguments(batch []*asked, attended bool) (sc *script, given args, rest []string) {
	cfg := t.store.cfg
	given = args{
		"n": "0", "again": "0", "once": "0", "duration": "1", "epoch": "0", "attended": flag(attended),
		"tombstone": t.store.tombstone(), "small": strconv.Itoa(smallAnswer),
		"max_queued": strconv.Itoa(cfg.MaxQueued), "max_bytes": strconv.FormatInt(cfg.MaxBytes, 10), "memory": "",
	}
	var count [aLease + 1]int
	for _, one := range batch {
		if count[one.kind]++; one.kind == aLease {
			given["n"], given["again"], given["once"], given["duration"], given["epoch"] = one.argv[0], one.argv[1], one.argv[2], one.argv[3], one.argv[4]
		} else {
			rest = append(rest, one.argv...)
		}
	}
	given["marks"], given["ends"], given["adds"] = strconv.Itoa(count[aMark]), strconv.Itoa(count[anEnd]), strconv.Itoa(count[anAdd])
	if count[anAdd] == 0 {
		return turnScript, given, rest
	}
	given["memory"] = t.keys.memory.known(t.store.memoryLook)
	return addTurnScript, given, rest
}

// make makes some transitions, and gives each its reply.
func (t *turns) make(batch []*asked, attended bool) {
	slices.SortStableFunc(batch, func(a, b *asked) int { return int(a.kind) - int(b.kind) })
	script, given, rest := t.arguments(batch, attended)
	reply, err := t.store.run(context.Background(), script, t.keys, given, rest...)
	var replies []rueidis.RedisMessage
	if err == nil {
		if replies, err = reply.ToArray(); err == nil && len(replies) != len(batch) {
			err = errors.New("turn: unexpected reply")
		}
	}
	switch leases := given["n"] != "0"; {
	case leases && err == nil:
		t.leased()
	case leases && !errors.Is(err, mom.ErrNotSent):
		go t.takeBack(given["epoch"])
	case !leases && given["adds"] != "0" && attended:
		t.left()
	}
	var again []*asked
	for i, one := range batch {
		if err != nil {
			one.end(rueidis.RedisMessage{}, err)
			continue
		}
		if one.kind == anAdd {
			t.keys.memory.learn(given["memory"], replies[i])
		}
		err := t.judge(one, replies[i].Error())
		if script == addTurnScript && one.kind != anAdd && errors.Is(err, mom.ErrQueueFull) {
			again = append(again, one) // it was refused for the new tasks
			continue
		}
		if one.kind == aLease {
			one.with = batch
			if errors.Is(err, errDefect) {
				go t.takeBack(given["epoch"]) // some tasks may be leased, and nobody has these leases
			}
		}
		one.end(replies[i], err)
	}
	if len(again) > 0 {
		t.make(again, attended)
	}
}

// judge is Store.judge for one of many transitions.
func (t *turns) judge(one *asked, err error) error {
	if err = t.store.judge(err); errors.Is(err, errDefect) {
		attrs := []any{"script", turnScript.name, "shard", t.keys.base, "error", err}
		if tasks := t.keys.tasksAmong(one.argv[0]); len(tasks) > 0 { // of a lease, it is a number
			attrs = append(attrs, "tasks", tasks)
		}
		t.store.once.Log(slog.LevelError, "failed "+t.keys.base, "a script failed", attrs...)
	}
	return err
}
