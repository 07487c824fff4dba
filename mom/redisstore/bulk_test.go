package redisstore_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// scriptCommands is the limit of commands for one script. So a script takes only a few
// milliseconds, however many tasks there are.
const scriptCommands = 1000

// commands counts what the server has done since the last call: all commands, and those that
// search through a list.
func (e *env) commands() (all, searches int64) {
	e.t.Helper()
	info, err := e.do("INFO", "commandstats").ToString()
	e.ok(err)
	e.ok(e.do("CONFIG", "RESETSTAT").Error())
	for line := range strings.SplitSeq(info, "\r\n") {
		name, rest, _ := strings.Cut(line, ":calls=")
		calls, _, _ := strings.Cut(rest, ",")
		n, _ := strconv.ParseInt(calls, 10, 64) // 0 for a heading
		all += n
		if name == "cmdstat_lrem" {
			searches += n
		}
	}
	return all, searches
}

// wantShort checks the commands since the last look: those of so many scripts, each of them short.
func (e *env) wantShort(what string, scripts int64) {
	e.t.Helper()
	all, searches := e.commands()
	if all > scripts*scriptCommands || searches > 0 {
		e.t.Errorf("%s: %d commands in %d scripts, %d of them search a list; want %d in each at most, and no search", what, all, scripts, searches, scriptCommands)
	}
}

// Many tasks end at once in short scripts, none of which searches the queue.
func TestBulkOfEnds(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	server, clock := redistest.NewClocked(t, start)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	var ids []contract.TaskID
	for i := range 600 {
		life := time.Hour
		if i%3 > 0 {
			life = time.Minute
		}
		ids = append(ids, e.add(ttl(life)))
	}
	e.commands()
	for i := 597; i > 300; i -= 3 {
		e.ok(e.Cancel(e.ctx, ids[i]))
		e.wantShort("cancelled", 1)
	}
	var left []mom.Departure
	for i := 3; i < 200; i += 3 {
		left = append(left, mom.Departure{ID: ids[i]})
	}
	e.ok(e.Abandon(e.ctx, e.shard, left))
	e.wantShort("left", 3)
	clock.Set(t, start.Add(2*time.Minute))
	rounds := 0
	for more := true; more; rounds++ {
		reaped, err := e.Reap(e.ctx, e.shard)
		e.ok(err)
		e.wantShort("expired", 1)
		more = reaped.Next == 0
	}
	if depth := e.depth(); depth.Queued != 35 || rounds < 10 {
		t.Errorf("after %d rounds: got %+v, want 35 queued, and many rounds", rounds, depth)
	}
}

// When a service returns just as its tasks expire, short scripts lead to the first task that has
// not expired.
func TestLeaseBehindABulk(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	server, clock := redistest.NewClocked(t, start)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	for range 300 {
		e.add(ttl(time.Minute))
	}
	good := e.add()
	clock.Set(t, start.Add(2*time.Minute))
	e.commands()
	for {
		leases, err := e.Lease(e.ctx, e.shard, 1, time.Hour)
		e.wantShort("a lease", 1)
		if limited := new(mom.LimitedError); errors.As(err, &limited) {
			continue // there are more tasks to look at
		}
		if e.ok(err); len(leases) != 1 || leases[0].ID != good {
			t.Errorf("leased: got %v, want %v", leases, good)
		}
		return
	}
}

// parkMany parks n tasks and returns them, the oldest first.
func (e *env) parkMany(n int) (parked []contract.TaskID) {
	e.t.Helper()
	for range n {
		parked = append(parked, e.parkOne(10))
	}
	return parked
}

// A parked task leaves from anywhere among many without a search; the others keep their
// order, and are counted.
func TestParkedLeaveFromAnywhere(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redisstore.Config{URL: redistest.New(t).URL()})
	parked := e.parkMany(400)
	e.commands()
	gone := func(i int) {
		t.Helper()
		parked = slices.Delete(parked, i, i+1)
		e.wantShort("a task left", 1)
	}
	for n := range 100 {
		i := rand.IntN(len(parked))
		switch n {
		case 0:
			i = len(parked) - 1
		case 1:
			i = 0
		}
		if n%2 == 0 {
			e.ok(e.Dismiss(e.ctx, parked[i]))
		} else {
			e.ok(e.Retry(e.ctx, parked[i]))
		}
		gone(i)
	}
	e.wantDead(parked...)
	if depth := e.depth(); depth.Dead != 300 || depth.Queued != 50 || depth.Parked.Bytes != 6*depth.Bytes/7 {
		t.Errorf("depth: got %+v, want 300 dead and 50 queued", depth)
	}
	again := e.lease()
	e.ok(e.Park(e.ctx, again, "again"))
	parked = append(parked, again.ID)
	e.wantDead(parked...)

	// An older release takes holes for tasks without a record, and removes them without counting.
	entries, err := e.do("LRANGE", e.key("dead"), "0", "-1").AsStrSlice()
	e.ok(err)
	hole := slices.IndexFunc(entries, func(entry string) bool { return len(entry) < ulid.EncodedSize })
	e.ok(e.do("LREM", e.key("dead"), "1", entries[hole]).Error())
	newer := newEnv(t, e.cfg)
	_, err = newer.Reap(e.ctx, e.shard)
	e.ok(err)
	if depth := e.depth(); depth.Dead != 301 {
		t.Errorf("counted anew: got %+v, want 301 dead", depth)
	}

	e.commands()
	retried, err := e.RetryDead(e.ctx, e.shard, true)
	if e.ok(err); retried != 301 {
		t.Errorf("retried: got %d, want 301", retried)
	}
	if all, _ := e.commands(); all > 20*scriptCommands { // a short list is searched
		t.Errorf("retried by %d commands", all)
	}
	if depth := e.depth(); depth.Dead != 0 || depth.Queued != 350 || depth.Parked != (mom.Parked{}) {
		t.Errorf("retried: got %+v, want 350 queued", depth)
	}
	for _, key := range []string{"dead", "holes", "parked"} {
		if n, err := e.do("EXISTS", e.key(key)).AsInt64(); err != nil || n != 0 {
			t.Errorf("%s is left behind, %v", key, err)
		}
	}
}

// After the clock was set back, parked tasks are not in the order of their times. They can leave
// all the same.
func TestParkedLeaveOutOfOrder(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	server, clock := redistest.NewClocked(t, start)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	parked := e.parkMany(200)
	clock.Set(t, start.Add(-time.Hour))
	parked = append(parked, e.parkMany(200)...)
	for len(parked) > 0 {
		i := rand.IntN(len(parked))
		e.ok(e.Dismiss(e.ctx, parked[i]))
		parked = slices.Delete(parked, i, i+1)
		if len(parked)%100 == 0 {
			e.wantDead(parked...)
		}
	}
	if depth := e.depth(); depth.Dead != 0 || depth.Bytes != 0 {
		t.Errorf("depth: got %+v, want none", depth)
	}
}
