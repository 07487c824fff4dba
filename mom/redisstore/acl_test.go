package redisstore_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// guarded is the Redis of swarm/, with its one user, on a unix socket.
type guarded struct {
	dir string
	cmd *exec.Cmd
}

func newGuarded(t *testing.T, secrets map[string]string) *guarded {
	t.Helper()
	dir := t.TempDir()
	g := &guarded{dir: dir}
	t.Cleanup(g.stop)
	conf, err := os.ReadFile("../../swarm/redis.conf")
	if err != nil {
		t.Fatal(err)
	}
	here := strings.Replace(string(conf), "dir /data\n", "dir "+dir+"\n", 1)
	if err := os.Mkdir(filepath.Join(dir, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"redis.conf": here + "port 0\nunixsocket " + g.socket() + "\nuser admin on nopass ~* &* +@all\n"}
	for name, text := range secrets {
		files["secrets/"+name] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func (g *guarded) socket() string { return filepath.Join(g.dir, "s") }

func (g *guarded) start(t *testing.T) {
	t.Helper()
	g.cmd = g.script("sh")
	g.cmd.Stdout, g.cmd.Stderr = t.Output(), t.Output()
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// script returns the command that runs redis.sh in a shell.
func (g *guarded) script(shell string) *exec.Cmd {
	cmd := exec.Command(shell, "../../swarm/redis.sh")
	cmd.Env = append(os.Environ(), "CONF="+filepath.Join(g.dir, "redis.conf"), "SECRETS="+filepath.Join(g.dir, "secrets"))
	return cmd
}

func (g *guarded) stop() {
	if g.cmd == nil {
		return
	}
	_ = g.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
	_ = g.cmd.Wait()
}

// open returns a store of that Redis, once it is ready.
func (g *guarded) open(t *testing.T, password string) *redisstore.Store {
	t.Helper()
	store, err := redisstore.Open(redisstore.Config{URL: "unix://holdline@" + g.socket(), Password: password, CommandTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := store.Check(ctx)
		if err == nil {
			return store
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("not within a minute: %v", err)
		}
	}
}

// admin sends a command as admin, a user that only this test has.
func (g *guarded) admin(t *testing.T, args ...string) rueidis.RedisResult {
	t.Helper()
	option, err := rueidis.ParseURL("unix://admin@" + g.socket())
	if err != nil {
		t.Fatal(err)
	}
	option.DisableCache, option.ForceSingleClient = true, true
	client, err := rueidis.NewClient(option)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	return client.Do(t.Context(), client.B().Arbitrary(args...).Build())
}

// The user that swarm/redis.sh makes may do all that a store does, with each of its passwords,
// and nothing else. What the store wrote is there after a restart.
func TestSwarmUser(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, map[string]string{"old": "yesterday\n", "next": "tomorrow"}) // one has no newline
	g.start(t)
	s := g.open(t, "yesterday")
	shard := mom.Shard{Service: "test.v1.Service"}
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	add := func(repeatable bool) contract.TaskID {
		t.Helper()
		added, err := s.Add(t.Context(), mom.NewTask{
			ID: contract.NewTaskID(shard.Service, 1, "", "", ""), Call: &momv1.Call{Procedure: "/test.v1.Service/Do"},
			Repeatable: repeatable, TTL: time.Hour, AnswerTTL: time.Hour, KeyHash: aKey(), Request: mom.Request{Fingerprint: "f"},
		})
		must("Add", err)
		return added.ID
	}
	lease := func() mom.Lease {
		t.Helper()
		leases, _, err := s.Lease(t.Context(), shard, mom.Room{Tasks: 1, Again: 1, Once: 1}, time.Minute)
		if err != nil || len(leases) != 1 {
			t.Fatalf("Lease: %v, %v, want one", leases, err)
		}
		return leases[0]
	}
	watching, stop := context.WithCancel(t.Context())
	watched, heard := make(chan struct{}), make(chan struct{}, 100)
	go func() {
		defer close(watched)
		_ = s.Watch(watching, []mom.Shard{shard}, func(mom.Shard, []mom.Transition) { heard <- struct{}{} }, func() { heard <- struct{}{} })
	}()
	<-heard // subscribed

	_, err := s.Numbering(t.Context(), shard.Service, 2)
	must("Numbering", err)
	_, err = s.Renumber(t.Context(), "other.v1.Service", 2)
	must("Renumber", err)
	_, err = s.Renumber(t.Context(), "other.v1.Service", 1)
	must("Renumber", err)
	must("Register", s.Register(t.Context(), map[string]int64{shard.Service: 0}))
	_, err = s.Services(t.Context())
	must("Services", err)

	first := add(true)
	<-heard
	_, _, err = s.Await(t.Context(), shard, time.Minute)
	must("Await", err)
	taken := lease()
	_, err = s.Renew(t.Context(), shard, []mom.Lease{taken}, time.Minute)
	must("Renew", err)
	must("MarkSent", s.MarkSent(t.Context(), taken))
	must("Release", s.Release(t.Context(), taken))
	taken = lease()
	_, err = s.Spend(t.Context(), taken, "failure", 0, 1) // its only attempt
	must("Spend", err)
	must("Retry", s.Retry(t.Context(), first))
	must("Settle", s.Settle(t.Context(), lease(), &momv1.Answer{RecordVersion: 1, Result: &momv1.Answer_Error{Error: &momv1.CallError{Code: 5}}}, false))
	second := add(false)
	must("Park", s.Park(t.Context(), lease(), "failure"))
	_, err = s.RetryDead(t.Context(), shard, true)
	must("RetryDead", err)
	must("Cancel", s.Cancel(t.Context(), second))
	_, err = s.Keep(t.Context(), shard, []contract.TaskID{second})
	must("Keep", err)
	must("Abandon", s.Abandon(t.Context(), shard, []mom.Departure{{ID: add(false)}}))
	third := add(false)
	must("Park", s.Park(t.Context(), lease(), "failure"))
	must("Dismiss", s.Dismiss(t.Context(), third))
	must("Pause", s.Pause(t.Context(), shard, true))
	must("Pause", s.Pause(t.Context(), shard, false))
	_, err = s.PassOver(t.Context(), func() mom.Lease { add(true); return lease() }(), "cannot be sent", time.Minute)
	must("PassOver", err)
	_, err = s.PutBack(t.Context(), func() mom.Lease { add(true); return lease() }(), "refused", time.Minute, true)
	must("PutBack", err)
	open := add(true)
	_, _, err = s.Lease(t.Context(), shard, mom.Room{Tasks: 1, Again: 1, Once: 1}, time.Minute)
	if limited := new(mom.LimitedError); !errors.As(err, &limited) {
		t.Errorf("Lease: %v, want it limited", err)
	}
	_, err = s.Reap(t.Context(), shard)
	must("Reap", err)
	_, err = s.Restore(t.Context(), shard)
	must("Restore", err)
	_, err = s.Depth(t.Context(), shard)
	must("Depth", err)
	_, _, err = s.List(t.Context(), shard, "", "", 10, nil)
	must("List", err)
	_, _, err = s.List(t.Context(), shard, "", "", 10, []momv1.TaskState{running, retrying, dead})
	must("List by state", err)
	must("KeepSchema", s.KeepSchema(t.Context(), "name", []byte("schema")))
	if kept, err := s.Schema(t.Context(), "name"); err != nil || string(kept) != "schema" {
		t.Errorf("Schema: %q, %v, want what was kept", kept, err)
	}
	stop()
	<-watched

	// The user of the release before may not call SCAN: then services are missing, and nothing else.
	must("DEL", g.admin(t, "DEL", "hl:services").Error())
	must("ACL SETUSER", g.admin(t, "ACL", "SETUSER", "holdline", "-scan").Error())
	_, err = s.Services(t.Context())
	must("Services", err)
	must("ACL LOG RESET", g.admin(t, "ACL", "LOG", "RESET").Error())
	must("ACL SETUSER", g.admin(t, "ACL", "SETUSER", "holdline", "+scan").Error())
	_, err = s.Services(t.Context())
	must("Services", err)

	// What the user was denied. Clients try CLIENT SETINFO, and work without it.
	denied, err := g.admin(t, "ACL", "LOG").ToArray()
	must("ACL LOG", err)
	for _, entry := range denied {
		if fields, _ := entry.AsStrMap(); fields["object"] != "client|setinfo" {
			t.Errorf("denied: %v", fields)
		}
	}
	for _, command := range [][]string{{"FLUSHALL"}, {"KEYS", "*"}, {"CONFIG", "GET", "*"}, {"SET", "other", "1"}, {"PUBLISH", "other", "1"}} {
		if got, err := g.admin(t, append([]string{"ACL", "DRYRUN", "holdline"}, command...)...).ToString(); err != nil || got == "OK" {
			t.Errorf("%v: %q, %v, want it denied", command, got, err)
		}
	}

	s.Close()
	g.stop()
	g.start(t)
	s = g.open(t, "tomorrow")
	if _, answer, err := s.Get(t.Context(), first); err != nil || answer.GetError().GetCode() != 5 {
		t.Errorf("after a restart: %v, %v, want the answer", answer, err)
	}
	if task, _, err := s.Get(t.Context(), open); err != nil || task.GetState() != queued {
		t.Errorf("after a restart: %v, %v, want a task that is queued", task, err)
	}
}

// Everything in a secret is the password; nothing in it becomes an ACL rule.
func TestSwarmSecrets(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string]string{
		"quotes": `a"b'c`, "an open quote": `"`, "blanks and rules": "a b ~* +@all nopass", "signs": "$HOME `id` \\ \\n # > <",
		"letters of other languages": "pässwörd – ключ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t, map[string]string{"one": " \t" + secret + " \r\n", "other": "yesterday"})
			g.start(t)
			g.open(t, secret)
			g.open(t, "yesterday")
			if got, err := g.admin(t, "ACL", "DRYRUN", "holdline", "FLUSHALL").ToString(); err != nil || got == "OK" {
				t.Errorf("FLUSHALL: %q, %v, want it denied", got, err)
			}
			if got, err := g.admin(t, "ACL", "GETUSER", "holdline").AsMap(); err != nil {
				t.Error(err)
			} else if flags := got["flags"]; strings.Contains(flags.String(), "nopass") {
				t.Errorf("flags: %s, want a password", flags.String())
			}
		})
	}
	for name, c := range map[string]struct {
		secrets map[string]string
		want    string
	}{
		"no secret":     {nil, "no password"},
		"an empty one":  {map[string]string{"one": ""}, "it is empty"},
		"a blank one":   {map[string]string{"one": "  \r\n", "other": "good"}, "it is empty"},
		"several lines": {map[string]string{"one": "first\nsecond\n"}, "several lines"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t, c.secrets)
			for _, shell := range []string{"sh", "bash"} {
				out, err := g.script(shell).CombinedOutput()
				if err == nil || !strings.Contains(string(out), c.want) || strings.Contains(string(out), "second") {
					t.Errorf("%s: %v, %q, want it to fail and say %q", shell, err, out, c.want)
				}
			}
		})
	}
}

// aKey returns another key hash at each call.
func aKey() string {
	return contract.NewTaskID("test.v1.Service", 1, "", "", "").ULID.String()
}
