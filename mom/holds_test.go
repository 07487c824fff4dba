package mom

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/prometheus/client_golang/prometheus"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/route"
)

// newFake returns a MOM on a fake store, which it trusts, and whose service is down. Nothing of it runs.
func newFake(t testing.TB, store *fakeStore, configure func(*Config)) *MOM {
	t.Helper()
	routes, err := route.ParseTable([]string{arithmeticv1connect.SumServiceName + "=http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	log, _ := discard()
	cfg := Config{Routes: routes, Schemas: schemas, Logger: log}
	if configure != nil {
		configure(&cfg)
	}
	m, err := New(cfg, store)
	if err != nil {
		t.Fatal(err)
	}
	m.ready.Store(true)
	return m
}

// response is what a call came to, and after how long.
type response struct {
	*httptest.ResponseRecorder
	early []http.Header // of the 103s
	began time.Time
	said  time.Duration // after which the last 103 came
	took  time.Duration
}

// WriteHeader implements http.ResponseWriter, with 103s, which a recorder does not know.
func (r *response) WriteHeader(status int) {
	if status == http.StatusEarlyHints {
		r.early, r.said = append(r.early, r.Header().Clone()), time.Since(r.began)
		return
	}
	r.ResponseRecorder.WriteHeader(status)
}

// call offers a call with headers such as "Prefer: wait=3", as a gateway does.
func call(ctx context.Context, m *MOM, id contract.TaskID, headers ...string) *response {
	return callWith(ctx, m, `{"a":1,"b":2}`, append([]string{contract.HeaderTask + ": " + id.String()}, headers...)...)
}

// callWith is call with a message of its own.
func callWith(ctx context.Context, m *MOM, message string, headers ...string) *response {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, arithmeticv1connect.SumServiceSumProcedure, strings.NewReader(message))
	r.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		r.Header.Set(key, value)
	}
	res := &response{ResponseRecorder: httptest.NewRecorder(), began: time.Now()}
	m.ServeHTTP(res, r)
	res.took = time.Since(res.began)
	return res
}

func sumID() contract.TaskID {
	return contract.NewTaskID(arithmeticv1connect.SumServiceName, 1, contract.Anonymous, arithmeticv1connect.SumServiceSumProcedure, "")
}

// end ends a task, and has the MOM hear of it.
func (s *fakeStore) end(m *MOM, id contract.TaskID, state momv1.TaskState, answer *momv1.Answer) {
	s.mu.Lock()
	s.tasks[id].state, s.tasks[id].answer = state, answer
	s.mu.Unlock()
	m.hear(id, state)
}

// A caller is held for as long as it allows, and then gets a handle; its gateway hears at once that the call is stored.
func TestHoldEndsWithAHandle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		headers []string
		took    time.Duration
	}{
		"as long as usual":       {nil, contract.DefaultHold},
		"as long as it prefers":  {[]string{"Prefer: wait=3"}, 3 * time.Second},
		"not at all":             {[]string{"Prefer: wait=0"}, 0},
		"not at all, async":      {[]string{"Prefer: respond-async"}, 0},
		"async, for a moment":    {[]string{"Prefer: respond-async, wait=2"}, 2 * time.Second},
		"no longer than allowed": {[]string{"Prefer: wait=3000"}, contract.MaxHold},
		"until its deadline":     {[]string{"Connect-Timeout-Ms: 1000"}, time.Second - contract.HandleMargin(time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m, id := newFake(t, newFakeStore(), nil), sumID()
				res := call(t.Context(), m, id, c.headers...)
				if res.Code != http.StatusAccepted || res.took != c.took || res.Header().Get(contract.HeaderTask) != id.String() ||
					!strings.Contains(res.Body.String(), "CALL_STORED") || res.Header().Get("Location") != "/v1/tasks/"+id.String() {
					t.Errorf("got %d after %v, %v, %s, want 202 after %v", res.Code, res.took, res.Header(), res.Body, c.took)
				}
				if c.took > 0 && (len(res.early) != 1 || res.early[0].Get(contract.HeaderTask) != id.String() || res.early[0].Get(contract.HeaderExpires) == "") {
					t.Errorf("before that: got %v, want one 103 that names the task and its end", res.early)
				}
			})
		})
	}
}

// A gateway hears at once that its caller is held, unless the answer should come soon.
func TestGatewayHearsOfAHold(t *testing.T) {
	t.Parallel()
	const never = time.Hour
	for name, c := range map[string]struct {
		well     bool
		again    bool // the call was offered before
		headers  []string
		answered time.Duration // after which there is an answer
		said     time.Duration // after which the gateway hears of the hold
		took     time.Duration // until its caller has the answer, or the handle
	}{
		"the service is not well":          {false, false, nil, 10 * time.Millisecond, 0, 10 * time.Millisecond},
		"it is":                            {true, false, nil, time.Second, quiet, time.Second},
		"it is, and answers":               {true, false, nil, 10 * time.Millisecond, never, 10 * time.Millisecond},
		"it is, but failed the gateway":    {true, false, []string{"Holdline-Cause: dial-refused"}, 10 * time.Millisecond, 0, 10 * time.Millisecond},
		"it is, and was offered it twice":  {true, true, nil, 10 * time.Millisecond, 0, 10 * time.Millisecond},
		"it is, and the caller waits":      {true, false, []string{"Prefer: wait=3"}, never, quiet, 3 * time.Second},
		"it is, and the caller waits less": {true, false, []string{"Connect-Timeout-Ms: 25"}, never, 5 * time.Millisecond, 5 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newFakeStore()
				m, id := newFake(t, store, nil), sumID()
				m.shards.part(ShardOf(id)).demand.well.Store(c.well)
				if c.again {
					call(t.Context(), m, id, "Prefer: wait=0")
				}
				defer time.AfterFunc(c.answered, func() {
					store.end(m, id, momv1.TaskState_TASK_STATE_SUCCEEDED, &momv1.Answer{RecordVersion: 3, Result: &momv1.Answer_Json{Json: []byte("{}")}})
				}).Stop()
				res := call(t.Context(), m, id, c.headers...)
				if len(res.early) == 0 {
					res.said = never
				}
				if res.said != c.said || len(res.early) > 1 || res.took != c.took {
					t.Errorf("heard of it after %v, %v, and answered after %v, with %d; want %v, and %v", res.said, res.early, res.took, res.Code, c.said, c.took)
				}
			})
		})
	}
}

// A caller who is held gets the answer as soon as there is one: the message, the service's error, or what became of
// the task in their place.
func TestHoldEndsWithAnAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		state  momv1.TaskState
		answer *momv1.Answer
		status int
		body   string
	}{
		"a message": {momv1.TaskState_TASK_STATE_SUCCEEDED, &momv1.Answer{RecordVersion: 3, Result: &momv1.Answer_Json{Json: []byte(`{"result":3}`)},
			Header: []*momv1.Metadata{{Key: "X-Service", Values: []string{"a"}}}}, 200, `{"result":3}`},
		"an error": {momv1.TaskState_TASK_STATE_FAILED, &momv1.Answer{RecordVersion: 1, Result: &momv1.Answer_Error{Error: &momv1.CallError{Code: 5, Message: "none"}},
			Header: []*momv1.Metadata{{Key: "X-Service", Values: []string{"a"}}}}, 404, `"none"`},
		"cancelled":                    {momv1.TaskState_TASK_STATE_CANCELLED, nil, 499, "TASK_CANCELLED"},
		"expired":                      {momv1.TaskState_TASK_STATE_EXPIRED, nil, 410, "TASK_EXPIRED"},
		"dead":                         {momv1.TaskState_TASK_STATE_DEAD, nil, 409, "ATTEMPTS_SPENT"},
		"uncertain":                    {momv1.TaskState_TASK_STATE_UNCERTAIN, nil, 500, "OUTCOME_UNKNOWN"},
		"an answer of a newer release": {momv1.TaskState_TASK_STATE_SUCCEEDED, &momv1.Answer{RecordVersion: 9}, 503, "newer release"}, // another MOM may have it
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newFakeStore()
				m, id := newFake(t, store, nil), sumID()
				go func() {
					time.Sleep(4 * time.Second)
					store.end(m, id, c.state, c.answer)
				}()
				res := call(t.Context(), m, id)
				if res.Code != c.status || res.took != 4*time.Second || !strings.Contains(res.Body.String(), c.body) {
					t.Errorf("got %d after %v, %s, want %d after 4s, %s", res.Code, res.took, res.Body, c.status, c.body)
				}
				if got := res.Header().Get("X-Service"); c.answer.GetHeader() != nil && got != "a" {
					t.Errorf("the service's header: got %q, want a", got)
				}
				// Whoever offers it again later gets the same at once.
				if again := call(t.Context(), m, id); again.Code != c.status || again.took != 0 || again.Body.String() != res.Body.String() {
					t.Errorf("offered again: got %d after %v, %s, want the same at once", again.Code, again.took, again.Body)
				}
			})
		})
	}
}

// Beyond the limit of held callers, and once the MOM drains, callers get their handles at once. Nobody is left counted.
func TestHoldIsCutShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		m := newFake(t, newFakeStore(), func(cfg *Config) { cfg.MaxHeld, cfg.Metrics = 2, registry })
		held := make(chan *response, 2)
		for range 2 {
			go func() { held <- call(t.Context(), m, sumID(), "Prefer: wait=300") }()
		}
		synctest.Wait()
		if n := m.holds.callers.Load(); n != 2 {
			t.Fatalf("%d callers are held, want 2", n)
		}
		if res := call(t.Context(), m, sumID(), "Prefer: wait=300"); res.Code != http.StatusAccepted || res.took != 0 {
			t.Errorf("one more: got %d after %v, want 202 at once", res.Code, res.took)
		}
		time.Sleep(time.Minute)
		m.Drain()
		for range 2 {
			if res := <-held; res.Code != http.StatusAccepted || res.took != time.Minute {
				t.Errorf("one of two: got %d after %v, want 202 after a minute", res.Code, res.took)
			}
		}
		if n := m.holds.callers.Load(); n != 0 {
			t.Errorf("%d callers are held afterwards, want none", n)
		}
	})
}

// A caller whose connection is lost counts as gone after a grace, unless it asked for a task, or the gateway has the
// time to answer it with a handle.
func TestHoldIsLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		headers []string
		after   time.Duration
		want    int // transitions
	}{
		"while it waits":      {[]string{"Prefer: wait=10"}, 5 * time.Second, 1},
		"near its end":        {[]string{"Prefer: wait=10"}, 9900 * time.Millisecond, 0},
		"with a task":         {[]string{"Prefer: respond-async, wait=10"}, 5 * time.Second, 0},
		"with a handle given": {[]string{"Prefer: wait=10", contract.HeaderKept + ": 1"}, 5 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newFakeStore()
				m := newFake(t, store, nil)
				inBackground(t, m.lapses.Run)
				ctx, leave := context.WithCancel(t.Context())
				time.AfterFunc(c.after, leave)
				call(ctx, m, sumID(), c.headers...)
				time.Sleep(lapseTime + time.Second)
				if got := store.transitions(); len(got) != c.want {
					t.Errorf("got %q, want %d", got, c.want)
				}
			})
		})
	}
}

// A task that the store no longer has is told of at once, since nobody will answer it: it may be sent again, if its
// method may run twice.
func TestHoldOfALostTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		m, id := newFake(t, store, nil), sumID()
		go func() {
			time.Sleep(2 * time.Second)
			store.mu.Lock()
			delete(store.tasks, id)
			store.mu.Unlock()
			m.resync()
		}()
		res := call(t.Context(), m, id)
		if res.took != 2*time.Second || !strings.Contains(res.Body.String(), "STORE_UNCERTAIN") {
			t.Errorf("got %d after %v, %s, want STORE_UNCERTAIN after 2s", res.Code, res.took, res.Body)
		}
	})
}

// What cannot be stored says whose fault that is, and whether it may be stored all the same.
func TestIntakeRefuses(t *testing.T) {
	t.Parallel()
	other := contract.NewTaskID("arithmetic.v1.SubtractionService", 1, "", "", "").String()
	for name, c := range map[string]struct {
		fail    error // of Add
		headers []string
		reason  string
		refused string
		unsure  string
		took    time.Duration
	}{
		"the queue is full":            {ErrQueueFull, nil, "QUEUE_FULL", contract.RefusedNow, "", 0},
		"the key was used":             {&KeyReusedError{First: Request{Fingerprint: "x", Schema: "none"}}, []string{"Idempotency-Key: k"}, "IDEMPOTENCY_KEY_REUSED", contract.RefusedCall, "", 0},
		"there is no connection":       {ErrNotSent, nil, "STORE_UNAVAILABLE", contract.RefusedNow, "", 0},
		"its key may be there":         {ErrNotSent, []string{"Idempotency-Key: k"}, "it was not stored this time", contract.RefusedNow, "", 0},
		"the store does not answer":    {ErrUnavailable, nil, "STORE_UNCERTAIN", "", "1", storeTimeout},
		"the number of shards moves":   {ErrMoved, nil, "STORE_UNAVAILABLE", contract.RefusedNow, "", storeTimeout},
		"a TTL that is none":           {nil, []string{"Holdline-Ttl: soon"}, "HEADER_INVALID", contract.RefusedCall, "", 0},
		"a key that is none":           {nil, []string{"Idempotency-Key: \xff"}, "HEADER_INVALID", contract.RefusedCall, "", 0},
		"a caller that is no text":     {nil, []string{contract.HeaderCaller + ": \xff"}, "HEADER_INVALID", "", "", 0},
		"an id that is none":           {nil, []string{contract.HeaderTask + ": 17"}, "HEADER_INVALID", "", "", 0},
		"an id of another service's":   {nil, []string{contract.HeaderTask + ": " + other}, "HEADER_INVALID", "", "", 0},
		"an id of no shard of its own": {nil, []string{contract.HeaderTask + ": arithmetic.v1.SumService.5.01JZ0000000000000000000000"}, "STORE_UNAVAILABLE", contract.RefusedNow, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newFakeStore()
				store.fail = func(method string) error {
					if method == "add" {
						return c.fail
					}
					return nil
				}
				res := call(t.Context(), newFake(t, store, nil), sumID(), c.headers...)
				header := res.Header()
				if !strings.Contains(res.Body.String(), c.reason) || header.Get(contract.HeaderRefused) != c.refused || header.Get(contract.HeaderUnsure) != c.unsure || res.took != c.took {
					t.Errorf("got %d after %v, %v, %s, want %s after %v, refused %q, unsure %q", res.Code, res.took, header, res.Body, c.reason, c.took, c.refused, c.unsure)
				}
			})
		})
	}
}

// A message that is none, or that is too large, reaches no queue. After a try that has failed, its size is no fault of
// the caller's.
func TestIntakeRefusesMessages(t *testing.T) {
	t.Parallel()
	large := `{"a":` + strings.Repeat(" ", maxRequest) + `1}`
	for name, c := range map[string]struct {
		message string
		headers []string
		want    string
	}{
		"no JSON":              {`{"a":`, nil, "invalid_argument"},
		"nothing":              {"", nil, "invalid_argument"},
		"too large":            {large, nil, "REQUEST_TOO_LARGE"},
		"too large, in outage": {large, []string{contract.HeaderCause + ": dns"}, "CALL_NOT_STORABLE"},
	} {
		store := newFakeStore()
		res := callWith(t.Context(), newFake(t, store, nil), c.message, c.headers...)
		if !strings.Contains(res.Body.String(), c.want) || res.Header().Get(contract.HeaderRefused) != contract.RefusedCall || store.times("add") != 0 {
			t.Errorf("%s: got %d, %v, %s, want %s, refused as the caller's", name, res.Code, res.Header(), res.Body, c.want)
		}
	}
}

// A call that came without a gateway gets its id here.
func TestIntakeMintsAnID(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	res := callWith(t.Context(), newFake(t, store, nil), `{"a":1}`, "Prefer: respond-async")
	id, err := contract.ParseTaskID(res.Header().Get(contract.HeaderTask))
	if err != nil || store.tasks[id] == nil || res.Code != http.StatusAccepted {
		t.Errorf("got %d, %v, %v, want the handle of a task that is stored", res.Code, res.Header(), err)
	}
}

// Whoever is held to the end gets the answer all the same if nobody has told of it; and one whose store cannot be
// reached then gets the handle, since the call is stored.
func TestHoldLooksOnceMore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		unheard func(*fakeStore, *fakeTask)
		status  int
	}{
		"it has ended": {func(_ *fakeStore, task *fakeTask) {
			task.state, task.answer = momv1.TaskState_TASK_STATE_SUCCEEDED, &momv1.Answer{RecordVersion: 3, Result: &momv1.Answer_Json{Json: []byte(`{}`)}}
		}, http.StatusOK},
		"it is gone":       {func(s *fakeStore, task *fakeTask) { delete(s.tasks, task.ID) }, http.StatusServiceUnavailable},
		"nobody can tell":  {func(s *fakeStore, _ *fakeTask) { s.fail = func(string) error { return ErrUnavailable } }, http.StatusAccepted},
		"it waits further": {func(*fakeStore, *fakeTask) {}, http.StatusAccepted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newFakeStore()
				m, id := newFake(t, store, nil), sumID()
				time.AfterFunc(time.Second, func() {
					store.mu.Lock()
					defer store.mu.Unlock()
					c.unheard(store, store.tasks[id])
				})
				if res := call(t.Context(), m, id, "Prefer: wait=2"); res.Code != c.status || res.took != 2*time.Second {
					t.Errorf("got %d after %v, %s, want %d after 2s", res.Code, res.took, res.Body, c.status)
				}
			})
		})
	}
}

// A MOM takes nothing before its store can be trusted.
func TestIntakeWaitsForItsStore(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	m := newFake(t, store, nil)
	m.ready.Store(false)
	if res := call(t.Context(), m, sumID()); res.Header().Get(contract.HeaderRefused) != contract.RefusedNow || store.times("add") != 0 {
		t.Errorf("got %d, %v, want it refused for now, and the store not asked", res.Code, res.Header())
	}
}

// A MOM that cannot read a task, since a newer release has stored it, has the gateway ask another MOM, and says so to those who ask for the task.
func TestTaskOfANewerRelease(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	m := newFake(t, store, func(*Config) {})
	id := sumID()
	call(t.Context(), m, id, "Prefer: respond-async")
	store.fail = func(method string) error {
		if method == "get" {
			return fmt.Errorf("%w: 17", ErrRecordVersion)
		}
		return nil
	}
	for _, prefer := range []string{"wait=9", "respond-async"} {
		res := call(t.Context(), m, id, "Prefer: "+prefer)
		if res.Code != http.StatusServiceUnavailable || res.Header().Get(contract.HeaderUnsure) == "" || res.Header().Get(contract.HeaderTask) != "" {
			t.Errorf("%s: got %d, %v, %s, want that another MOM is asked", prefer, res.Code, res.Header(), res.Body)
		}
	}
	_, _, err := read(t.Context(), store, id)
	if contract.ReasonOf(err) != momv1.Reason_REASON_STORE_UNAVAILABLE || !strings.Contains(err.Error(), "newer release") {
		t.Errorf("read: got %v, want that a newer release has stored it", err)
	}
}

// A caller whose time is over hears that, and not that the store is away: a read was cut short.
func TestTimeIsOver(t *testing.T) {
	t.Parallel()
	for _, over := range []bool{true, false} {
		store := newFakeStore()
		m := newFake(t, store, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		store.fail = func(string) error {
			if over {
				cancel()
			}
			return ErrUnavailable
		}
		s := &taskService{store: store, shelf: m.shelf, shards: m.shards, waiters: m.waiters, draining: m.draining, once: m.once}
		id := sumID().String()
		for name, ask := range map[string]func(ctx context.Context) error{
			"WaitTask": func(ctx context.Context) error {
				_, err := s.WaitTask(ctx, &momv1.WaitTaskRequest{Id: id})
				return err
			},
			"GetTask": func(ctx context.Context) error {
				_, err := s.GetTask(ctx, &momv1.GetTaskRequest{Id: id})
				return err
			},
		} {
			asked := tellTime(func(ctx context.Context, _ connect.Spec, _ connect.ServerStream) error { return ask(ctx) })
			if err := asked(ctx, connect.Spec{}, nil); err == nil || errors.Is(err, context.Canceled) != over {
				t.Errorf("%s, over %v: got %v", name, over, err)
			}
		}
	}
}
