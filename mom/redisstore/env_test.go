package redisstore_test

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

const (
	queued    = momv1.TaskState_TASK_STATE_QUEUED
	running   = momv1.TaskState_TASK_STATE_RUNNING
	retrying  = momv1.TaskState_TASK_STATE_RETRYING
	succeeded = momv1.TaskState_TASK_STATE_SUCCEEDED
	failed    = momv1.TaskState_TASK_STATE_FAILED
	cancelled = momv1.TaskState_TASK_STATE_CANCELLED
	expired   = momv1.TaskState_TASK_STATE_EXPIRED
	dead      = momv1.TaskState_TASK_STATE_DEAD
	uncertain = momv1.TaskState_TASK_STATE_UNCERTAIN
)

func TestMain(m *testing.M) {
	redistest.Main(m, func(code int) int {
		// rueidis closes connections to former nodes of a cluster after 5 s, and Find waits for less than half a second.
		err := goleak.Find()
		for until := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(until); {
			err = goleak.Find()
		}
		if err != nil && code == 0 {
			fmt.Println(err)
			return 1
		}
		return code
	})
}

// env is the store of one test, and a client of its own to look at what is stored.
type env struct {
	*redisstore.Store
	t      testing.TB
	ctx    context.Context
	cfg    redisstore.Config
	raw    rueidis.Client
	shard  mom.Shard
	caller string
}

// onEach runs a test against a redis-server and a miniredis.
func onEach(t *testing.T, test func(t *testing.T, e *env)) {
	t.Helper()
	onEachWith(t, redisstore.Config{}, test)
}

func onEachWith(t *testing.T, cfg redisstore.Config, test func(t *testing.T, e *env)) {
	t.Helper()
	t.Parallel()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		cfg := cfg
		cfg.URL = redistest.Start(t)
		test(t, newEnv(t, cfg))
	})
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		cfg := cfg
		cfg.URL, cfg.Embedded = redistest.Mini(t), true
		test(t, newEnv(t, cfg))
	})
}

var envs atomic.Int64

func newEnv(t testing.TB, cfg redisstore.Config) *env {
	t.Helper()
	if cfg.Prefix == "" {
		cfg.Prefix = fmt.Sprintf("%s.%d:", t.Name(), envs.Add(1)) // tests may run twice
	}
	// A test that waits for the end of a lease reaps twice; that is grace enough.
	if cfg.LeaseGrace == 0 {
		cfg.LeaseGrace = time.Nanosecond
	}
	// The deadline is tested where it matters; elsewhere a slow machine is no
	// failure.
	if cfg.CommandTimeout == 0 {
		cfg.CommandTimeout = 20 * time.Second
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = 10 * time.Second
	}
	store, err := redisstore.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	option, err := rueidis.ParseURL(cfg.URL)
	if err != nil {
		t.Fatal(err)
	}
	option.DisableCache, option.ForceSingleClient, option.AlwaysRESP2 = true, !cfg.Cluster, cfg.Embedded
	raw, err := rueidis.NewClient(option)
	if raw == nil {
		t.Fatal(err)
	}
	t.Cleanup(raw.Close)
	return &env{
		Store: store, t: t, ctx: context.Background(), cfg: cfg, raw: raw,
		shard: mom.Shard{Service: "test.v1.Service", Index: 3}, caller: "anonymous",
	}
}

func (e *env) id() contract.TaskID {
	id := contract.NewTaskID(e.shard.Service, 1, "", "", "")
	id.Shard = e.shard.Index
	return id
}

// task is a task that waits an hour and whose answer is kept for an hour.
func (e *env) task() mom.NewTask {
	return mom.NewTask{
		ID: e.id(), Repeatable: true, Cause: "dial-refused", TTL: time.Hour, AnswerTTL: time.Hour,
		Call: &momv1.Call{RecordVersion: 1, Procedure: "/test.v1.Service/Do", Caller: e.caller, Message: []byte("\x00\xff payload")},
	}
}

func (e *env) add(change ...func(*mom.NewTask)) contract.TaskID {
	e.t.Helper()
	task := e.task()
	for _, c := range change {
		c(&task)
	}
	added, err := e.Add(e.ctx, task)
	if err != nil {
		e.t.Fatalf("add: %v", err)
	}
	return added.ID
}

func undeclared(t *mom.NewTask)                    { t.Repeatable = false }
func ttl(d time.Duration) func(*mom.NewTask)       { return func(t *mom.NewTask) { t.TTL = d } }
func answerTTL(d time.Duration) func(*mom.NewTask) { return func(t *mom.NewTask) { t.AnswerTTL = d } }
func keyed(key, print string) func(*mom.NewTask) {
	return func(t *mom.NewTask) { t.KeyHash, t.Fingerprint = key, print }
}

// Lease leases up to n tasks, whichever they are.
func (e *env) Lease(ctx context.Context, shard mom.Shard, n int, d time.Duration) ([]mom.Lease, error) {
	leases, _, err := e.Store.Lease(ctx, shard, mom.Room{Tasks: n, Again: n, Once: n}, d)
	return leases, err
}

func (e *env) Settle(ctx context.Context, lease mom.Lease, answer *momv1.Answer) error {
	return e.Store.Settle(ctx, lease, answer, false)
}

// lease takes one task for an hour. The caller checks which one it is.
func (e *env) lease() mom.Lease {
	e.t.Helper()
	return e.leaseFor(time.Hour)
}

func (e *env) leaseFor(d time.Duration) mom.Lease {
	e.t.Helper()
	leases, err := e.Lease(e.ctx, e.shard, 1, d)
	if err != nil || len(leases) != 1 {
		e.t.Fatalf("lease: got %d, %v, want 1", len(leases), err)
	}
	return leases[0]
}

func (e *env) order() []contract.TaskID {
	e.t.Helper()
	leases, err := e.Lease(e.ctx, e.shard, 1000, time.Hour)
	if err != nil {
		e.t.Fatal(err)
	}
	ids := make([]contract.TaskID, len(leases))
	for i, lease := range leases {
		ids[i] = lease.ID
	}
	return ids
}

func (e *env) state(id contract.TaskID) momv1.TaskState {
	e.t.Helper()
	return e.get(id).State
}

func (e *env) get(id contract.TaskID) *momv1.Task {
	e.t.Helper()
	task, _, err := e.Get(e.ctx, id)
	if err != nil {
		e.t.Fatalf("get: %v", err)
	}
	return task
}

func (e *env) wantState(id contract.TaskID, want momv1.TaskState) {
	e.t.Helper()
	if got := e.state(id); got != want {
		e.t.Fatalf("state: got %v, want %v", got, want)
	}
}

func (e *env) ok(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// reapUntil reaps until done returns true.
func (e *env) reapUntil(what string, done func() bool) {
	e.t.Helper()
	until(e.t, what, func() bool {
		_, err := e.Reap(e.ctx, e.shard)
		e.ok(err)
		return done()
	})
}

// until calls done until it returns true. The limit is only for tests that hang.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// counting is of a shard and not of its tasks.
var counting = regexp.MustCompile(`:(ended:\d|stir)$`)

// existing lists the keys of the test that come with tasks and go with them, without its prefix.
func (e *env) existing() []string {
	e.t.Helper()
	found := make(map[string]bool)
	for _, node := range e.raw.Nodes() {
		for cursor, more := uint64(0), true; more; more = cursor != 0 {
			page, err := node.Do(e.ctx, node.B().Scan().Cursor(cursor).Match(e.cfg.Prefix+"*").Count(1000).Build()).AsScanEntry()
			e.ok(err)
			for _, key := range page.Elements {
				if !counting.MatchString(key) {
					found[strings.TrimPrefix(key, e.cfg.Prefix)] = true
				}
			}
			cursor = page.Cursor
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// key is a key of the test's shard.
func (e *env) key(name string) string {
	return fmt.Sprintf("%shl:{%s#%d}:%s", e.cfg.Prefix, e.shard.Service, e.shard.Index, name)
}

// do runs a Redis command on the test's own connection. The second word, if any, is a key: in a
// cluster it selects the node.
func (e *env) do(words ...string) rueidis.RedisResult {
	command := e.raw.B().Arbitrary(words[0])
	if len(words) > 1 {
		command = command.Keys(words[1]).Args(words[2:]...)
	}
	return e.raw.Do(e.ctx, command.Build())
}

func success(text string) *momv1.Answer {
	message, err := anypb.New(wrapperspb.String(text))
	if err != nil {
		panic(err) // a constant message
	}
	return &momv1.Answer{RecordVersion: 1, Result: &momv1.Answer_Message{Message: message}}
}

func failure(text string) *momv1.Answer {
	return &momv1.Answer{RecordVersion: 1, Result: &momv1.Answer_Error{Error: &momv1.CallError{Code: 9, Message: text}}}
}

func (e *env) wantAnswer(id contract.TaskID, want *momv1.Answer) {
	e.t.Helper()
	_, got, err := e.Get(e.ctx, id)
	if err != nil || !proto.Equal(got, want) {
		e.t.Fatalf("answer: got %v, %v, want %v", got, err, want)
	}
}
