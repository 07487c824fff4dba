package redisstore_test

import (
	"slices"
	"strings"
	"testing"
	"time"

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

// Check names each command that transitions need and the user may not call.
func TestCheckNamesMissingRights(t *testing.T) {
	t.Parallel()
	e, admin := newLimited(t)
	e.ok(e.Check(e.ctx))
	for _, command := range []string{"zadd", "incrby", "time", "publish"} {
		admin.ok(admin.do("ACL", "SETUSER", "limited", "-"+command).Error())
		if err := e.Check(e.ctx); err == nil || !strings.Contains(err.Error(), "may not call "+strings.ToUpper(command)+",") {
			t.Errorf("without %s: got %v, want an error that names it", command, err)
		}
		admin.ok(admin.do("ACL", "SETUSER", "limited", "+"+command).Error())
		e.ok(e.Check(e.ctx))
	}
}

// A call of which a script has stored only a part is stored when it is offered again.
func TestHalfStored(t *testing.T) {
	t.Parallel()
	e, admin := newLimited(t)
	for _, command := range []string{"hset", "set", "zadd", "rpush", "incrby"} {
		for _, keyed := range []bool{false, true} {
			task := e.task()
			if keyed {
				task.KeyHash, task.Request = "k"+command, mom.Request{Fingerprint: "f"}
			}
			admin.ok(admin.do("ACL", "SETUSER", "limited", "-"+command).Error())
			if _, err := e.Add(e.ctx, task); err == nil {
				t.Errorf("without %s: it was stored", command)
			}
			admin.ok(admin.do("ACL", "SETUSER", "limited", "+"+command).Error())
			added, err := e.Add(e.ctx, task)
			e.ok(err)
			if added.ID != task.ID {
				t.Errorf("without %s: got %v, want %v", command, added, task.ID)
			}
			if command == "rpush" { // it is in no queue, and expires
				continue
			}
			if lease := e.lease(); lease.ID != task.ID {
				t.Errorf("without %s: leased %v, want %v", command, lease.ID, task.ID)
			} else {
				e.ok(e.Settle(e.ctx, lease, success("done")))
			}
		}
	}
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
