package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/client"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/redistest"
)

// site starts gateways and MOMs one by one, each with routes of its own, on one Redis. All of
// them know the ledger's schema.
type site struct {
	bin, image, ledger string
	redis              *redistest.Server
}

func newSite(tb testing.TB) *site {
	tb.Helper()
	ownSystem(tb)
	return &site{bin: build(tb), image: ledgerImage(tb), ledger: freeport.Addr(tb), redis: redistest.New(tb)}
}

// route is that of the ledger.
func (s *site) route(options string) string { return ledgerService + "=http://" + s.ledger + options }

// unused is a route that nobody calls: there must be one.
const unused = "other.v1.Service=http://127.0.0.1:1"

// mom starts a MOM and waits until it takes tasks.
func (s *site) mom(tb testing.TB, route string) (addr string, p *process) {
	tb.Helper()
	addr = freeport.Addr(tb)
	p = start(tb, s.bin, slices.Concat([]string{"mom", "--redis", s.redis.URL(), "--schema", s.image, "--route", route}, withAdmin(tb, addr))...)
	awaitReady(tb, addr)
	return addr, p
}

// gateway starts a gateway before MOMs and waits until it is ready.
func (s *site) gateway(tb testing.TB, route string, moms ...string) *house {
	tb.Helper()
	h := &house{addr: freeport.Addr(tb), momAddr: moms, ledger: s.ledger}
	args := append([]string{"gateway", "--schema", s.image, "--route", route}, withAdmin(tb, h.addr)...)
	for _, mom := range moms {
		args = append(args, "--mom", "http://"+mom)
	}
	start(tb, s.bin, args...)
	awaitReady(tb, h.addr)
	return h
}

// command runs a command of an operator, and returns what it prints.
func (s *site) command(tb testing.TB, mom string, args ...string) string {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), filepath.Join(s.bin, "holdline"), args...)
	cmd.Env = append(os.Environ(), "HOLDLINE_ADMIN="+adminOf(tb, mom))
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// poster makes calls of Post that nobody makes twice.
type poster struct {
	mu     sync.Mutex
	next   int64
	failed []string
	work   sync.WaitGroup
}

// begin begins n calls at a gateway, each of which is held until it is answered.
func (p *poster) begin(tb testing.TB, h *house, n int) {
	tb.Helper()
	rpc := wire{http2: true}.client(tb, h.addr)
	for range n {
		amount := p.next
		p.next++
		p.work.Go(func() {
			res := amounts(tb, 0)
			ctx, _ := withHeaders(tb.Context(), "Prefer: wait=60")
			if err := rpc.CallUnary(ctx, ledgerSpec("Post"), amounts(tb, amount), res); err != nil || amountOf(res) != amount+1 {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.failed = append(p.failed, fmt.Sprintf("%d: %v", amount, err))
			}
		})
	}
}

// check waits for all answers, and looks whether each call ran once.
func (p *poster) check(tb testing.TB, l *ledger) {
	tb.Helper()
	p.work.Wait()
	if len(p.failed) > 0 {
		tb.Errorf("%d of %d calls were not answered, such as %s", len(p.failed), p.next, p.failed[0])
	}
	twice := 0
	for amount := range p.next {
		if l.ran(amount) > 1 {
			twice++
		}
	}
	if twice > 0 || l.posted() != int(p.next) {
		tb.Errorf("%d of %d calls ran twice, and %d ran in all, want each once", twice, p.next, l.posted())
	}
}

// storeKey stores a call of Post under a key, and returns its task's id.
func (h *house) storeKey(tb testing.TB, key int64) string {
	tb.Helper()
	req := amounts(tb, key)
	ctx, _ := withHeaders(tb.Context(), "Prefer: wait=0", "Idempotency-Key: "+strconv.FormatInt(key, 10))
	err := wire{http2: true}.client(tb, h.addr).CallUnary(ctx, ledgerSpec("Post"), req, dynamicpb.NewMessage(req.Descriptor()))
	id := client.TaskFrom(err).GetId()
	if id == "" {
		tb.Errorf("key %d: got %v, want a handle", key, err)
	}
	return id
}

// Gateways and MOMs whose routes say other numbers of shards store each call once: under one id
// when a MOM is killed, and under one key through all gateways.
func TestOtherNumbersOfShards(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, killed := s.mom(t, s.route(";shards=3"))
	second, _ := s.mom(t, s.route(";shards=7"))
	gateways := []*house{
		s.gateway(t, s.route(";shards=8"), first, second), s.gateway(t, s.route(""), first, second), s.gateway(t, s.route(";shards=3"), first, second),
	}
	const keys = 30
	for key := int64(1000); key < 1000+keys; key++ {
		var ids []string
		for _, h := range gateways {
			ids = append(ids, h.storeKey(t, key))
		}
		if len(slices.Compact(slices.Clone(ids))) != 1 {
			t.Errorf("key %d: got the tasks %v, want one", key, ids)
		}
	}
	var p poster
	for _, h := range gateways {
		p.begin(t, h, 20)
	}
	awaitTasks(t, second, keys+60, momv1.TaskState_TASK_STATE_QUEUED)
	killed.kill(t)
	var l ledger
	run(t, l.serve(t, s.ledger))
	p.work.Wait()
	awaitTasks(t, second, keys+60, momv1.TaskState_TASK_STATE_SUCCEEDED)
	for key := int64(1000); key < 1000+keys; key++ {
		if l.ran(key) != 1 {
			t.Errorf("key %d ran %d times, want once", key, l.ran(key))
		}
	}
	l.mu.Lock()
	l.post -= keys
	l.mu.Unlock()
	p.check(t, &l)
}

// The number of shards is changed while tasks wait and calls come: up, down, and while MOMs that
// have not heard of it are there. Nothing is lost, and nothing runs twice.
func TestNumberOfShardsChanges(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, killed := s.mom(t, s.route(""))
	second, _ := s.mom(t, s.route(""))
	gateways := []*house{s.gateway(t, s.route(""), first, second), s.gateway(t, s.route(";shards=4"), second)}
	ids := map[int64]string{}
	key := int64(1000)
	store := func(n int64) {
		t.Helper()
		for range n {
			ids[key] = gateways[key%2].storeKey(t, key)
			key++
		}
	}
	same := func() {
		t.Helper()
		for key, id := range ids {
			for _, h := range gateways {
				if got := h.storeKey(t, key); got != id {
					t.Errorf("key %d: got task %s, want %s", key, got, id)
				}
			}
		}
	}
	var p poster
	for i, shards := range []int{4, 1, 6} {
		store(10)
		for _, h := range gateways {
			p.begin(t, h, 10)
		}
		awaitTasks(t, second, int(key-1000)+int(p.next), momv1.TaskState_TASK_STATE_QUEUED)
		for range 2 { // twice is harmless
			out := s.command(t, []string{first, second, second}[i], "queue", "shards", ledgerService, strconv.Itoa(shards))
			if !strings.Contains(out, " "+strconv.Itoa(shards)) {
				t.Errorf("queue shards printed %s", out)
			}
		}
		if shards == 1 {
			if q := queueAt(t, second); q.GetShards() != 1 || q.GetOldShards() != 3 {
				t.Errorf("queue = %v, want one shard and three old ones", q)
			}
		}
		same()
		store(5)
		if i == 1 {
			killed.kill(t) // those whom it held are offered again, by the new number
		}
	}
	same()
	var l ledger
	run(t, l.serve(t, s.ledger))
	p.work.Wait()
	awaitTasks(t, second, len(ids)+int(p.next), momv1.TaskState_TASK_STATE_SUCCEEDED)
	eventually(t, func() bool { return queueAt(t, second).GetOldShards() == 0 }, "the old shards are empty")
	for key := range ids {
		if l.ran(key) != 1 {
			t.Errorf("key %d ran %d times, want once", key, l.ran(key))
		}
	}
	l.mu.Lock()
	l.post -= len(ids)
	l.mu.Unlock()
	p.check(t, &l)
}

// A change that was broken off, since the MOM died that made it, is ended by another one, without a call
// or a person.
func TestChangeOfShardsIsEnded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	mom, _ := s.mom(t, s.route(";shards=2"))
	ids := []string{storeAt(t, mom, 1), storeAt(t, mom, 2)}
	s.redis.Ask(t, "SET", "hl:shards:{"+ledgerService+"}", `{"shards":2,"epoch":0,"next":{"shards":3,"epoch":1}}`)
	s.redis.Ask(t, "ZADD", "hl:services", "1", ledgerService)
	s.redis.Ask(t, "SET", "hl:{"+ledgerService+"#0}:numbering", "1")
	eventually(t, func() bool { return queueAt(t, mom).GetShards() == 3 }, "the change is ended")
	run(t, (&ledger{}).serve(t, s.ledger))
	for _, id := range append(ids, storeAt(t, mom, 3)) {
		readWaited(t, mom, id)
	}
}

// queueAt is the queue of the ledger as a MOM tells it; nil for none.
func queueAt(tb testing.TB, mom string) *momv1.Queue {
	tb.Helper()
	list, err := queueService(tb, mom).ListQueues(tb.Context(), &momv1.ListQueuesRequest{})
	if err != nil {
		tb.Fatalf("ListQueues: %v", err)
	}
	for _, q := range list.GetQueues() {
		if q.GetService() == ledgerService {
			return q
		}
	}
	return nil
}

// A queue that is paused and limited stays so when the number of its shards changes.
func TestShardsOfPausedQueue(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	mom, _ := s.mom(t, s.route(";shards=2"))
	h := s.gateway(t, s.route(""), mom)
	s.command(t, mom, "queue", "limit", ledgerService, "--running", "8", "--per-second", "100")
	s.command(t, mom, "queue", "pause", ledgerService)
	s.command(t, mom, "queue", "shards", ledgerService, "8")
	var l ledger
	run(t, l.serve(t, s.ledger))
	ids := h.async(t, "Post", 30)
	if q := queueAt(t, mom); !q.GetPaused() || q.GetMaxRunning() != 8 || q.GetMaxPerSecond() < 99 || q.GetMaxPerSecond() > 101 || q.GetQueued() != 30 {
		t.Errorf("queue = %v, want it paused, with its limits and its tasks", q)
	}
	s.command(t, mom, "queue", "resume", ledgerService)
	h.checkAnswers(t, ids)
}

// A MOM that cannot read the number of shards of one service is there for the others.
func TestTroubleOfOneQueue(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const sum = "arithmetic.v1.SumService"
	s.redis.Ask(t, "HSET", "hl:shards:{"+ledgerService+"}", "not", "a number")
	var log lines
	addr := freeport.Addr(t)
	p := &process{name: filepath.Join(s.bin, "holdline"), log: &log, args: slices.Concat([]string{
		"mom", "--redis", s.redis.URL(), "--schema", s.image, "--route", s.route(""), "--route", sum + "=http://127.0.0.1:1",
	}, withAdmin(t, addr))}
	p.begin(t)
	awaitReady(t, addr)
	if res, body := post(t, "http://"+addr+"/"+sum+"/Sum", `{"a": 1, "b": 2}`, "Prefer: respond-async"); res.StatusCode != http.StatusAccepted {
		t.Errorf("the other service: got %d %s, want 202", res.StatusCode, body)
	}
	ask := func() connect.Code {
		got, _ := wire{}.ask(t, addr, "Post", amounts(t, 1), "Prefer: respond-async")
		return got.code
	}
	if got := ask(); got != connect.CodeUnavailable {
		t.Errorf("the service in trouble: got %v, want unavailable", got)
	}
	eventually(t, func() bool {
		return strings.Contains(log.String(), "the number of shards cannot be read") && strings.Contains(log.String(), ledgerService)
	}, "a warning names the service")
	if out := s.command(t, addr, "queue", "list"); !strings.Contains(out, "unreadable") || !strings.Contains(out, "SumService") {
		t.Errorf("queue list printed %s, want both queues", out)
	}
	s.redis.Ask(t, "DEL", "hl:shards:{"+ledgerService+"}")
	eventually(t, func() bool { return ask() == connect.CodeDeadlineExceeded }, "it is stored")

	shard := "hl:{" + ledgerService + "#0}:numbering"
	s.redis.Ask(t, "SET", shard, "no epoch")
	if got := ask(); got != connect.CodeUnavailable {
		t.Errorf("a shard that takes nothing: got %v, want unavailable", got)
	}
	s.redis.Ask(t, "DEL", shard)
	if got := ask(); got != connect.CodeDeadlineExceeded {
		t.Errorf("a shard that takes tasks again: got %v, want a handle", got)
	}
}

// lines are what a process has logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// An id of another service, or none at all, is the caller's error.
func TestMisshapenID(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	mom, _ := s.mom(t, s.route(";shards=2"))
	for _, id := range []string{"nonsense", "other.v1.Service.0.01JD3Z00000000000000000000"} {
		ctx, _ := withHeaders(t.Context(), contract.HeaderTask+": "+id, "Prefer: respond-async")
		err := wire{}.client(t, mom).CallUnary(ctx, ledgerSpec("Post"), amounts(t, 1), amounts(t, 0))
		if contract.ReasonOf(err) != momv1.Reason_REASON_HEADER_INVALID {
			t.Errorf("%s: got %v, want HEADER_INVALID", id, err)
		}
	}
	for _, shard := range []int{0, 1, 2, 9} {
		id := contract.NewTaskID(ledgerService, 2, "", "", "")
		fits := id.Shard == shard
		id.Shard = shard
		ctx, info := withHeaders(t.Context(), contract.HeaderTask+": "+id.String(), "Prefer: respond-async")
		err := wire{}.client(t, mom).CallUnary(ctx, ledgerSpec("Post"), amounts(t, 1), amounts(t, 0))
		switch {
		case fits && client.TaskFrom(err).GetId() != id.String():
			t.Errorf("%s: got %v, want it stored under this id", id, err)
		case !fits && (connect.CodeOf(err) != connect.CodeUnavailable || info.ResponseHeader().Get(contract.HeaderShards) != "2"):
			t.Errorf("%s: got %v with %q, want it refused with the number of shards", id, err, info.ResponseHeader().Get(contract.HeaderShards))
		}
	}
	if q := queueAt(t, mom); q.GetQueued() > 4 {
		t.Errorf("queue = %v, want nothing stored that was refused", q)
	}
}
