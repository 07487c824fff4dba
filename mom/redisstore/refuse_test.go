package redisstore_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// doubts waits until a store asks for a Check.
func (e *env) doubts() {
	e.t.Helper()
	select {
	case <-e.Doubts():
	case <-time.After(20 * time.Second):
		e.t.Fatal("no doubt was heard")
	}
}

// A server that refuses a command has not run it.
func TestRefusalsAreCertain(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	user := func(rules ...string) func(*env) {
		return func(e *env) {
			e.ok(e.raw.Do(e.ctx, e.raw.B().Arbitrary(append([]string{"ACL", "SETUSER", "other", "reset"}, rules...)...).Build()).Error())
		}
	}
	for name, test := range map[string]struct {
		url  string
		rule func(*env)
	}{
		"WRONGPASS": {"unix://other:wrong@", user("on", ">right", "~*", "&*", "+@all")},
		"NOPERM":    {"unix://other:right@", user("on", ">right", "~*", "&*", "+@all", "-evalsha", "-info")},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, redisstore.Config{URL: server.URL()})
			test.rule(e)
			store, err := redisstore.Open(redisstore.Config{URL: strings.Replace(server.URL(), "unix://", test.url, 1), CommandTimeout: 20 * time.Second})
			e.ok(err)
			t.Cleanup(store.Close)
			e.Store = store
			_, add := e.Add(e.ctx, e.task())
			_, _, get := e.Get(e.ctx, e.id())
			for what, err := range map[string]error{"add": add, "check": e.Check(e.ctx)} {
				if !errors.Is(err, mom.ErrUnavailable) || !errors.Is(err, mom.ErrNotSent) || !strings.Contains(err.Error(), name) {
					t.Errorf("%s: got %v, want ErrUnavailable and ErrNotSent for %s", what, err, name)
				}
			}
			if name == "WRONGPASS" && !errors.Is(get, mom.ErrNotSent) {
				t.Errorf("get: got %v, want ErrNotSent", get)
			}
			e.doubts()
		})
	}
}

// switchboard is one address for two servers. New connections go to the server that it is
// switched to, and those that exist stay.
type switchboard struct {
	url string
	to  atomic.Pointer[string] // the socket
}

func newSwitchboard(t *testing.T, to *redistest.Server) *switchboard {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &switchboard{url: "redis://" + listener.Addr().String()}
	b.switchTo(to)
	var pipes sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		pipes.Wait()
	})
	pipes.Go(func() {
		for {
			front, err := listener.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("unix", *b.to.Load())
			if err != nil {
				_ = front.Close()
				continue
			}
			one := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.Close()
				_ = from.Close()
			}
			pipes.Go(func() { one(front, back) })
			pipes.Go(func() { one(back, front) })
		}
	})
	return b
}

func (b *switchboard) switchTo(server *redistest.Server) {
	socket := strings.TrimPrefix(server.URL(), "unix://")
	b.to.Store(&socket)
}

// A failover behind one address: the server that took our writes is a replica now, and the
// address leads to its successor. We learn that only when the replica refuses a write.
func TestFailoverBehindOneAddress(t *testing.T) {
	t.Parallel()
	first, second := redistest.New(t), redistest.New(t)
	board := newSwitchboard(t, first)
	e := newEnv(t, redisstore.Config{URL: board.url})
	l := e.watch(e.shard)
	e.ok(e.Check(e.ctx))
	e.add()

	board.switchTo(second)
	first.Ask(t, "REPLICAOF", "127.0.0.1", "1")
	_, err := e.Add(e.ctx, e.task())
	if !errors.Is(err, mom.ErrUnavailable) || !errors.Is(err, mom.ErrNotSent) || !strings.Contains(err.Error(), "READONLY") {
		t.Errorf("add: got %v, want ErrUnavailable and ErrNotSent for READONLY", err)
	}
	e.doubts()
	until(t, "the next server takes tasks", func() bool { _, err := e.Add(e.ctx, e.task()); return err == nil })
	until(t, "a second resync", func() bool { _, n := l.seen(); return n >= 2 })
	// Nothing was replicated to the second server: it is another store, and Check says so once.
	if err := e.Check(e.ctx); !errors.Is(err, mom.ErrStoreLost) {
		t.Errorf("check: got %v, want ErrStoreLost", err)
	}
	e.ok(e.Check(e.ctx))
}

// Check refuses a replica, even while nobody writes.
func TestCheckRefusesReplicas(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	e.ok(e.Check(e.ctx))
	server.Ask(t, "REPLICAOF", "127.0.0.1", "1")
	if err := e.Check(e.ctx); !errors.Is(err, mom.ErrNotSent) {
		t.Errorf("check: got %v, want ErrNotSent", err)
	}
	server.Ask(t, "REPLICAOF", "NO", "ONE")
	until(t, "it can be trusted again", func() bool { return e.Check(e.ctx) == nil })
}

// A password that was rotated is read again at the next connection.
func TestRotatedPassword(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	server.Ask(t, "ACL", "SETUSER", "mom", "on", ">old", "~*", "&*", "+@all")
	var password atomic.Value
	password.Store("old")
	e := newEnv(t, redisstore.Config{URL: server.URL()})
	store, err := redisstore.Open(redisstore.Config{
		URL: strings.Replace(server.URL(), "unix://", "unix://mom@", 1), CommandTimeout: 20 * time.Second,
		ReadPassword: func() (string, error) { return password.Load().(string), nil },
	})
	e.ok(err)
	t.Cleanup(store.Close)
	e.Store = store
	e.ok(e.Check(e.ctx))
	server.Ask(t, "ACL", "SETUSER", "mom", "resetpass", ">new")
	server.Ask(t, "CLIENT", "KILL", "USER", "mom")
	until(t, "the old password is refused", func() bool {
		err := e.Check(e.ctx)
		return errors.Is(err, mom.ErrNotSent) && strings.Contains(err.Error(), "WRONGPASS")
	})
	password.Store("new")
	until(t, "the new password opens", func() bool { _, err := e.Add(e.ctx, e.task()); return err == nil })
}
