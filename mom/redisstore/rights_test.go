package redisstore_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// newLimited is a store whose user may do all at first. The env that is returned beside it is the administrator's.
func newLimited(t *testing.T) (e, admin *env) {
	t.Helper()
	server := redistest.New(t)
	admin = newEnv(t, redisstore.Config{URL: server.URL()})
	admin.ok(admin.do("ACL", "SETUSER", "limited", "on", "nopass", "~*", "&*", "+@all").Error())
	e = newEnv(t, redisstore.Config{URL: strings.Replace(server.URL(), "://", "://limited@", 1)})
	return e, admin
}

// Check names each command that transitions need and the user may not call, from the start, or after a script has failed.
func TestCheckNamesMissingRights(t *testing.T) {
	t.Parallel()
	e, admin := newLimited(t)
	user := func(rules ...string) {
		t.Helper()
		admin.ok(admin.do(append([]string{"ACL", "SETUSER", "limited"}, rules...)...).Error())
	}
	// fresh is a store that has not been looked at.
	fresh := func() *env {
		t.Helper()
		other := newEnv(t, redisstore.Config{URL: e.cfg.URL})
		other.add() // only what there is to be done for a shard is asked for
		return other
	}
	for _, command := range []string{"zadd", "incrby", "time", "hset"} {
		denied := func(e *env) {
			t.Helper()
			if err := e.Check(e.ctx); err == nil || !strings.Contains(err.Error(), "what transitions need: "+strings.ToUpper(command)) {
				t.Errorf("without %s: got %v, want an error that names it", command, err)
			}
		}
		e := fresh()
		user("-" + command)
		denied(e)
		user("+" + command)
		e.ok(e.Check(e.ctx))
		user("-" + command)
		_, _ = e.Add(e.ctx, e.task())
		denied(e)
		user("+" + command)
		e.ok(e.Check(e.ctx))
	}
	other := fresh()
	user("-eval")
	if err := other.Check(e.ctx); err == nil || !strings.Contains(err.Error(), "may not run scripts") {
		t.Errorf("without EVAL: got %v, want an error that says so", err)
	}
	user("+eval")
	// Keys may be those of single services.
	other = fresh()
	prefix := other.cfg.Prefix + "hl:"
	user("resetkeys", "resetchannels", "~"+prefix+"store", "~"+prefix+"{test.v1.Service#*", "&"+prefix+"{test.v1.Service#*")
	e.ok(other.Check(e.ctx))
	other.add()
}

// A server whose commands were renamed is not used: nothing is stored there.
func TestCheckNamesRenamedCommands(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"RPUSH", "TIME", "HSET", "ZADD"} {
		server := redistest.New(t, "--rename-command", command, "other")
		e := newEnv(t, redisstore.Config{URL: server.URL()})
		if _, err := e.Add(e.ctx, e.task()); !errors.Is(err, mom.ErrNotSent) || !strings.Contains(err.Error(), "what transitions need: "+command) {
			t.Errorf("%s: got %v, want it not sent, and the command named", command, err)
		}
		if n, err := e.do("DBSIZE").AsInt64(); n != 0 || err != nil {
			t.Errorf("%s: there are %d keys, %v, want none", command, n, err)
		}
		if err := e.Check(e.ctx); err == nil || !strings.HasSuffix(err.Error(), "what transitions need: "+command) {
			t.Errorf("%s: got %v, want an error that names it", command, err)
		}
	}
}

// A call of which a script has stored only a part is stored when it is offered again, and so is another one with its key.
func TestHalfStored(t *testing.T) {
	t.Parallel()
	e, admin := newLimited(t)
	for _, command := range []string{"hset", "set", "zadd", "rpush", "incrby"} {
		for _, keyed := range []string{"", "the same call", "another with its key"} {
			task := e.task()
			if keyed != "" {
				task.KeyHash, task.Request = command+keyed, mom.Request{Fingerprint: "f"}
			}
			admin.ok(admin.do("ACL", "SETUSER", "limited", "-"+command).Error())
			if _, err := e.Add(e.ctx, task); err == nil {
				t.Errorf("without %s: it was stored", command)
			}
			admin.ok(admin.do("ACL", "SETUSER", "limited", "+"+command).Error())
			want, first := task.ID, task.ID
			if keyed == "another with its key" {
				if task.ID = e.task().ID; command != "incrby" { // by then it is whole
					want = task.ID
				}
			}
			added, err := e.Add(e.ctx, task)
			e.ok(err)
			if added.ID != want {
				t.Errorf("without %s, %s: got %v, want %v", command, keyed, added, want)
			}
			if listed, err := e.do("ZSCORE", e.key("c:"+e.caller), first.ULID.String()).ToString(); want != first && err == nil {
				t.Errorf("without %s, %s: what is gone is listed: %s", command, keyed, listed)
			}
			if lease := e.lease(); lease.ID != want {
				t.Errorf("without %s, %s: leased %v, want %v", command, keyed, lease.ID, want)
			} else {
				e.ok(e.Settle(e.ctx, lease, success("done")))
			}
		}
	}
}

// A lease that Redis ends midway leaves the queue as it was; and without a right no further script runs, nor the first one of a MOM that starts.
func TestLeaseWithoutARight(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"lpop", "hmget", "get", "hset", "zadd", "del", "exists"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			e, admin := newLimited(t)
			for i := range 12 {
				var id contract.TaskID
				if i%3 == 1 { // there is room for one of these alone
					id = e.add(undeclared)
				} else {
					id = e.add()
				}
				if i%4 == 2 { // this one has been tried
					e.ok(e.do("HSET", e.key("t:"+id.ULID.String()), "n", "1").Error())
				}
			}
			queue := func() (states []string) {
				t.Helper()
				list, err := admin.do("LRANGE", e.key("ready"), "0", "-1").AsStrSlice()
				e.ok(err)
				for _, name := range list {
					state, err := admin.do("HGET", e.key("t:"+name), "s").ToString()
					e.ok(err)
					states = append(states, name+" "+state)
				}
				return states
			}
			before, room := queue(), mom.Room{Tasks: 20, Again: 20, Once: 1}
			admin.ok(admin.do("ACL", "SETUSER", "limited", "-"+command).Error())
			for _, store := range []*env{newEnv(t, e.cfg), e, e} {
				if leases, _, err := store.Store.Lease(e.ctx, e.shard, room, time.Minute); err == nil {
					t.Errorf("leased %v, want an error", leases)
				}
				if after := queue(); !slices.Equal(after, before) {
					t.Errorf("the queue is %v, want %v", after, before)
				}
			}
			admin.ok(admin.do("ACL", "SETUSER", "limited", "+"+command).Error())
			room.Once = 20
			leases, _, err := e.Store.Lease(e.ctx, e.shard, room, time.Minute)
			e.ok(err)
			if len(leases) != len(before) {
				t.Errorf("leased %d tasks, want all %d", len(leases), len(before))
			}
		})
	}
}

// A task that is in the queue twice, as one that was cancelled and stored anew, is not lost by a lease that Redis ends midway; nor is one that is passed over
// where there is no right to LPUSH.
func TestLeaseLosesNoneWithoutARight(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"zadd", "lpush"} {
		e, admin := newLimited(t)
		for range 3 {
			e.add()
			e.add(undeclared)
		}
		twice := e.add()
		e.ok(e.do("RPUSH", e.key("ready"), twice.ULID.String()).Error())
		admin.ok(admin.do("ACL", "SETUSER", "limited", "-"+command).Error())
		room := mom.Room{Tasks: 20, Again: 20, Once: 1}
		first, _, _ := e.Store.Lease(e.ctx, e.shard, room, time.Minute)
		admin.ok(admin.do("ACL", "SETUSER", "limited", "+"+command).Error())
		room.Once = 20
		rest, _, err := e.Store.Lease(e.ctx, e.shard, room, time.Minute)
		e.ok(err)
		if got := len(first) + len(rest); got != 7 {
			t.Errorf("without %s: leased %d tasks, and then %d, want all 7", command, len(first), len(rest))
		}
	}
}

// After a script that has failed for want of a right, none is run until our user may call all.
func TestNoSecondScriptWithoutARight(t *testing.T) {
	t.Parallel()
	e, admin := newLimited(t)
	e.add()
	for _, rules := range [][2]string{{"-zadd", "+zadd"}, {"-hset", "+hset"}} {
		admin.ok(admin.do("ACL", "SETUSER", "limited", rules[0]).Error())
		if _, err := e.Add(e.ctx, e.task()); err == nil || errors.Is(err, mom.ErrNotSent) {
			t.Errorf("%s: got %v, want an error of what was sent", rules[0], err)
		}
		_, err := e.Add(e.ctx, e.task())
		if !errors.Is(err, mom.ErrNotSent) {
			t.Errorf("%s: got %v, want it not sent", rules[0], err)
		}
		if _, err = e.Reap(e.ctx, e.shard); !errors.Is(err, mom.ErrNotSent) {
			t.Errorf("%s: reaped, %v", rules[0], err)
		}
		admin.ok(admin.do("ACL", "SETUSER", "limited", rules[1]).Error())
		if _, err = e.Add(e.ctx, e.task()); err != nil {
			t.Errorf("%s: got %v", rules[1], err)
		}
	}
}

// A task that was settled by a script that Redis ended midway stays as it ended.
func TestSettledMidway(t *testing.T) {
	t.Parallel()
	e, admin := newLimited(t)
	for _, command := range []string{"zrem", "zadd", "del", "decrby"} {
		for _, change := range []func(*mom.NewTask){undeclared, func(*mom.NewTask) {}} {
			id := e.add(change)
			lease := e.leaseFor(time.Millisecond)
			e.ok(e.MarkSent(e.ctx, lease))
			admin.ok(admin.do("ACL", "SETUSER", "limited", "-"+command).Error())
			if err := e.Settle(e.ctx, lease, success("done")); err == nil || errors.Is(err, mom.ErrNotSent) {
				t.Errorf("without %s: got %v, want an error of what was sent", command, err)
			}
			admin.ok(admin.do("ACL", "SETUSER", "limited", "+"+command).Error())
			e.reapUntil("it is not among the open ones", func() bool {
				open, err := admin.do("EXISTS", e.key("ttl"), e.key("lease"), e.key("later"), e.key("ready")).AsInt64()
				e.ok(err)
				return open == 0
			})
			e.wantState(id, succeeded)
			e.wantAnswer(id, success("done"))
			name := id.ULID.String()
			if call, err := admin.do("EXISTS", e.key("p:"+name)).AsInt64(); call != 0 || err != nil {
				t.Errorf("without %s: its call is kept, %v", command, err)
			}
			if bytes, err := admin.do("EXISTS", e.key("bytes")).AsInt64(); bytes != 0 && command != "del" || err != nil {
				t.Errorf("without %s: its bytes are counted, %v", command, err)
			}
			if _, err := admin.do("ZSCORE", e.key("gone"), name+" "+e.caller).ToString(); err != nil {
				t.Errorf("without %s: its record never expires, %v", command, err)
			}
		}
	}
}

// A task that was being parked when Redis ended the script waits for a person.
func TestParkedMidway(t *testing.T) {
	t.Parallel()
	e, admin := newLimited(t)
	id := e.add(undeclared)
	lease := e.leaseFor(time.Millisecond)
	admin.ok(admin.do("ACL", "SETUSER", "limited", "-zrem").Error())
	if err := e.Park(e.ctx, lease, "cut off"); err == nil {
		t.Error("it was parked without a right")
	}
	admin.ok(admin.do("ACL", "SETUSER", "limited", "+zrem").Error())
	e.reapUntil("it waits for a person", func() bool {
		depth, err := e.Depth(e.ctx, e.shard)
		e.ok(err)
		return depth.Dead == 1
	})
	e.ok(e.Retry(e.ctx, id))
	e.wantState(id, queued)
}

// What is in no list, and was not left so by Add, is left alone: it may run, or have run.
func TestNotHalfStored(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		for name, change := range map[string][]string{
			"tried": {"n", "1"}, "sent": {"m", "1"}, "retried by a person": {"q", "20"}, "of a newer release": {"v", "99"}, "retrying": {"s", "3"},
		} {
			task := e.task()
			_, err := e.Add(e.ctx, task)
			e.ok(err)
			record := e.key("t:" + task.ID.ULID.String())
			e.ok(e.do("ZREM", e.key("ttl"), task.ID.ULID.String()).Error())
			e.ok(e.do(append([]string{"HSET", record, "mine", "1"}, change...)...).Error())
			again, err := e.Add(e.ctx, task)
			e.ok(err)
			if mine, _ := e.do("HGET", record, "mine").ToString(); !again.Known || mine != "1" {
				t.Errorf("%s: got %+v, and the record %v; want it known, and left alone", name, again, e.do("HGETALL", record))
			}
			e.ok(e.do("DEL", record, e.key("ready")).Error())
		}
	})
}

// A call that is offered twice at once is stored once, and leased once.
func TestOfferedTwiceInATurn(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		task := e.task()
		task.Repeatable = false
		added, refused, leases, err := e.AddAndLease(e.ctx, e.shard, []mom.NewTask{task, task}, mom.Room{Tasks: 9, Again: 9, Once: 9}, time.Minute)
		e.ok(err)
		if errors.Join(refused...) != nil || len(leases) != 1 || !slices.ContainsFunc(added, func(one mom.Added) bool { return one.Known }) {
			t.Errorf("got %+v, %v, and %d leases; want one lease, and that the second is known", added, refused, len(leases))
		}
	})
}

// A task that is under way without a lease, as a script has left it that failed midway, ends when its life does.
func TestRunningWithoutALease(t *testing.T) {
	t.Parallel()
	e, admin := newLimited(t)
	id := e.add(func(task *mom.NewTask) { task.TTL = time.Second })
	e.lease()
	admin.ok(admin.do("ZREM", e.key("lease"), id.ULID.String()).Error())
	e.reapUntil("it has ended", func() bool { return slices.Contains([]any{expired, uncertain, dead}, any(e.state(id))) })
}
