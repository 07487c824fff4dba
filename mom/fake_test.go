package mom

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/logonce"
	"holdline/internal/outage"
)

// fakeStore is a store for tests whose time is synctest's, which no Redis follows. It has the tasks that a
// test gives it, fails as it is told, and writes down the transitions that it is asked for.
type fakeStore struct {
	Store // nil: what is not below, no test may ask for

	// fail says what becomes of a method; nil: all succeed.
	fail func(method string) error
	// reap is what Reap finds.
	reap Reaped
	// services are what Services lists, and numbers of what Numbering says.
	services map[string]int64
	numbers  map[string]Numbering
	schemas  map[string][]byte
	doubts   chan struct{}

	mu      sync.Mutex
	ready   []Lease // the queue
	oldest  time.Duration
	lost    []Lease // that the next Renew finds lost
	tasks   map[contract.TaskID]*fakeTask
	bell    chan struct{}
	along   chan []Lease // what Await returns
	said    []string     // transitions
	counted map[string]int

	attended bool
	room     Room
}

// fakeTask is one that was added.
type fakeTask struct {
	NewTask
	state  momv1.TaskState
	answer *momv1.Answer
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		tasks: map[contract.TaskID]*fakeTask{}, bell: make(chan struct{}, 1), along: make(chan []Lease), counted: map[string]int{}, doubts: make(chan struct{}),
		services: map[string]int64{}, numbers: map[string]Numbering{}, schemas: map[string][]byte{},
	}
}

// count counts a call of a method, and says what becomes of it.
func (s *fakeStore) count(method string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counted[method]++
	if s.fail == nil {
		return nil
	}
	return s.fail(method)
}

// times is how often a method was called since it was asked last.
func (s *fakeStore) times(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.counted[method]
	s.counted[method] = 0
	return n
}

// note writes a transition down.
func (s *fakeStore) note(method string, args ...any) error {
	if err := s.count(method); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, fmt.Sprint(append([]any{method}, args...)...))
	return nil
}

// transitions are those that were made since they were asked for last.
func (s *fakeStore) transitions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.said
	s.said = nil
	return said
}

// queue puts leases into the queue, and rings.
func (s *fakeStore) queue(leases ...Lease) {
	s.mu.Lock()
	s.ready = append(s.ready, leases...)
	s.mu.Unlock()
	nudge(s.bell)
}

func (s *fakeStore) Lease(_ context.Context, _ Shard, room Room, _ time.Duration) ([]Lease, bool, error) {
	if err := s.count("lease"); err != nil {
		return nil, true, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(room.Tasks, len(s.ready))
	for sum := 0; sum < n; sum++ {
		if s.ready[sum].Size >= LeaseBytes {
			n = sum + 1
		}
	}
	leases := slices.Clone(s.ready[:n])
	s.ready = s.ready[n:]
	return leases, len(s.ready) > 0, nil
}

func (s *fakeStore) Renew(context.Context, Shard, []Lease, time.Duration) ([]Lease, error) {
	if err := s.count("renew"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := s.lost
	s.lost = nil
	return lost, nil
}

func (s *fakeStore) Attend(_ Shard, attended bool, room Room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attended, s.room = attended, room
}

// attends is what Attend was told last.
func (s *fakeStore) attends() (attended bool, room Room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attended, s.room
}

func (s *fakeStore) Await(ctx context.Context, _ Shard, _ time.Duration) ([]Lease, bool, error) {
	select {
	case <-s.bell:
		return nil, true, nil
	case leases := <-s.along:
		return leases, false, nil
	case <-ctx.Done():
		return nil, true, ctx.Err()
	}
}

func (s *fakeStore) Listen(context.Context, contract.TaskID) error { return s.count("listen") }

func (s *fakeStore) Depth(context.Context, Shard) (Depth, error) {
	err := s.count("depth")
	s.mu.Lock()
	defer s.mu.Unlock()
	return Depth{Queued: int64(len(s.ready)), OldestWait: s.oldest}, err
}

func (s *fakeStore) Name() string { return "fake" }

func (s *fakeStore) Ended(context.Context, Shard) (map[momv1.TaskState]int64, error) {
	s.mu.Lock()
	ended := map[momv1.TaskState]int64{}
	for _, task := range s.tasks {
		if !contract.IsOpen(task.state) {
			ended[task.state]++
		}
	}
	s.mu.Unlock()
	return ended, s.count("ended")
}

func (s *fakeStore) Reap(context.Context, Shard) (Reaped, error) {
	return s.reap, s.count("reap")
}

func (s *fakeStore) MarkSent(_ context.Context, lease Lease) error {
	if lease.Repeatable {
		return nil
	}
	return s.note("mark")
}

func (s *fakeStore) Release(context.Context, Lease) error { return s.note("release") }

func (s *fakeStore) Settle(_ context.Context, _ Lease, answer *momv1.Answer, _ bool) error {
	if e := answer.GetError(); e != nil {
		return s.note("settle error ", e.GetCode())
	}
	return s.note("settle ", len(answer.GetMessage().GetValue()), " bytes")
}

func (s *fakeStore) PutBack(_ context.Context, _ Lease, why string, wait time.Duration, all bool) (time.Duration, error) {
	return wait, s.note("put back ", why, " ", wait, " all=", all)
}

func (s *fakeStore) PassOver(_ context.Context, _ Lease, why string, wait time.Duration) (time.Duration, error) {
	return wait, s.note("pass over ", why, " ", wait)
}

func (s *fakeStore) Spend(_ context.Context, _ Lease, failure string, backoff time.Duration, _ int) (momv1.TaskState, error) {
	return momv1.TaskState_TASK_STATE_RETRYING, s.note("spend ", failure, " ", backoff)
}

func (s *fakeStore) Park(_ context.Context, _ Lease, failure string) error {
	return s.note("park ", failure)
}

func (s *fakeStore) Services(context.Context) (map[string]int64, error) {
	return s.services, s.count("services")
}

func (s *fakeStore) Register(_ context.Context, epochs map[string]int64) error {
	if len(epochs) == 0 {
		return nil
	}
	return s.note("register ", epochs)
}

func (s *fakeStore) Numbering(_ context.Context, service string, first int) (Numbering, error) {
	if err := s.count("numbering " + service); err != nil {
		return Numbering{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if is, ok := s.numbers[service]; ok {
		return is, nil
	}
	if first == 0 {
		return Numbering{}, ErrNotFound
	}
	return Numbering{Shards: first}, nil
}

func (s *fakeStore) KeepSchema(_ context.Context, name string, raw []byte) error {
	if err := s.count("keep schema"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schemas[name] = raw
	return nil
}

func (s *fakeStore) Schema(_ context.Context, name string) ([]byte, error) {
	if err := s.count("schema"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if raw := s.schemas[name]; raw != nil {
		return raw, nil
	}
	return nil, ErrNotFound
}

func (s *fakeStore) Check(context.Context) error { return s.count("check") }
func (s *fakeStore) Durability() Durability      { return Durability{} }
func (s *fakeStore) Doubts() <-chan struct{}     { return s.doubts }
func (s *fakeStore) Abandon(_ context.Context, _ Shard, left []Departure) error {
	return s.note("abandon ", len(left))
}

func (s *fakeStore) Add(_ context.Context, task NewTask) (Added, error) {
	if err := s.count("add"); err != nil {
		return Added{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tasks[task.ID] != nil {
		return Added{ID: task.ID, Known: true}, nil
	}
	s.tasks[task.ID] = &fakeTask{NewTask: task, state: momv1.TaskState_TASK_STATE_QUEUED}
	return Added{ID: task.ID, ExpireTime: time.Now().Add(task.TTL)}, nil
}

func (s *fakeStore) Get(_ context.Context, id contract.TaskID) (*momv1.Task, *momv1.Answer, error) {
	if err := s.count("get"); err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	task := s.tasks[id]
	if task == nil {
		return nil, nil, ErrNotFound
	}
	return &momv1.Task{Id: id.String(), Procedure: task.Call.GetProcedure(), State: task.state}, task.answer, nil
}

// testID is the id of a new task of a service that no schema has.
func testID() contract.TaskID {
	return contract.NewTaskID("test.v1.Service", 1, contract.Anonymous, "/test.v1.Service/Do", "")
}

// testLeases are leases of new tasks.
func testLeases(n int) []Lease {
	leases := make([]Lease, n)
	for i := range leases {
		leases[i] = Lease{ID: testID(), Repeatable: true, Epoch: 1, Call: &momv1.Call{RecordVersion: 1, Procedure: "/test.v1.Service/Do"}}
	}
	return leases
}

func discard() (*slog.Logger, *logonce.Logger) {
	log := slog.New(slog.DiscardHandler)
	return log, logonce.New(log)
}

// inBackground runs something until the test ends or stop is called, and checks how it ends.
func inBackground(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func noOutages() *outage.Log { return outage.New(outage.Config{Logger: slog.New(slog.DiscardHandler)}) }

// sum adds up the series of a name.
func sum(t *testing.T, registry *prometheus.Registry, name string) (total float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == name {
				total += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return total
}

// hear has a MOM hear of one transition.
func (m *MOM) hear(id contract.TaskID, state momv1.TaskState) {
	m.heard(ShardOf(id), []Transition{{ULID: id.ULID, State: state}})
}
