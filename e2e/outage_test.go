package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"holdline/client"
	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/stack"
)

// To a caller who is held, an outage is latency, on every wire.
func TestHeldCallers(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Without: []string{"sum"}})
	var callers sync.WaitGroup
	defer callers.Wait()
	for i, w := range wires() {
		callers.Go(func() {
			ctx, info := withHeaders(t.Context(), "Prefer: wait=60")
			res, err := w.sum(ctx, t, s, float64(i), 0.25)
			if err != nil || res.GetResult() != float64(i)+0.25 {
				t.Errorf("%s: sum = %v, %v, want %v", w.name, res, err, float64(i)+0.25)
			}
			if got := info.ResponseHeader().Get(contract.HeaderTask); !strings.HasPrefix(got, arithmeticv1connect.SumServiceName+".0.") {
				t.Errorf("%s: %s = %q, want the task's id", w.name, contract.HeaderTask, got)
			}
			if got := info.ResponseHeader().Get(contract.HeaderApplied); got != "wait=60" {
				t.Errorf("%s: %s = %q, want wait=60", w.name, contract.HeaderApplied, got)
			}
		})
	}
	awaitTasks(t, s.Gateway, len(wires()), momv1.TaskState_TASK_STATE_QUEUED)
	startService(t, s, "sum")
}

// lenient is the context of a caller who names a deadline, and waits on: on a busy
// machine the last quarter of a second may be over before it has read what came in time.
type lenient struct {
	context.Context
	deadline time.Time
}

// Deadline implements context.Context.
func (l lenient) Deadline() (time.Time, bool) { return l.deadline, true }

// Whoever is not held long enough gets a handle, and the answer by it; and,
// with the same key, from any other protocol.
func TestHandles(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Without: []string{"sum"}})
	all := wires()
	bounds := []struct {
		name  string
		ctx   func(*testing.T, wire) context.Context
		keyed bool
	}{
		{"hold", func(t *testing.T, w wire) context.Context {
			ctx, _ := withHeaders(t.Context(), "Prefer: wait=1", "Idempotency-Key: "+w.name)
			return ctx
		}, true},
		{"deadline", func(t *testing.T, _ wire) context.Context {
			ctx, _ := withHeaders(t.Context())
			return lenient{ctx, time.Now().Add(3 * time.Second)}
		}, false},
	}
	handles := make([]string, len(all)*len(bounds))
	var callers sync.WaitGroup
	for i, w := range all {
		for j, bound := range bounds {
			callers.Go(func() {
				ctx := bound.ctx(t, w)
				_, err := w.sum(ctx, t, s, float64(i), 0.5)
				handles[i*len(bounds)+j] = checkHandle(ctx, t, w, err)
			})
		}
	}
	callers.Wait()
	if t.Failed() {
		return
	}
	startService(t, s, "sum")

	tasks := client.New(wire{http2: true}.client(t, s.Gateway))
	for i, w := range all {
		for j, bound := range bounds {
			id, want := handles[i*len(bounds)+j], float64(i)+0.5
			t.Run(w.name+"/"+bound.name, func(t *testing.T) {
				t.Parallel()
				var res arithmeticv1.SumResponse
				if err := tasks.Answer(t.Context(), id, &res); err != nil || res.GetResult() != want {
					t.Errorf("WaitTask: got %v, %v, want %v", &res, err, want)
				}
				if got := readAnswer(t, s.Gateway, id, http.StatusOK); got != fmt.Sprintf(`{"result":%v}`, want) {
					t.Errorf("answer = %s, want %v", got, want)
				}
				if !bound.keyed {
					return
				}
				for _, other := range all {
					if other.protocol() == w.protocol() {
						continue
					}
					ctx, info := withHeaders(t.Context(), "Idempotency-Key: "+w.name)
					res, err := other.sum(ctx, t, s, float64(i), 0.5)
					if err != nil || res.GetResult() != want {
						t.Errorf("%s: %v, %v, want %v", other.name, res, err, want)
					}
					if got := info.ResponseHeader().Get(contract.HeaderReplayed); got != "true" {
						t.Errorf("%s: %s = %q, want true", other.name, contract.HeaderReplayed, got)
					}
					if got := info.ResponseHeader().Get(contract.HeaderTask); got != id {
						t.Errorf("%s: task = %q, want %q", other.name, got, id)
					}
				}
			})
		}
	}
}

// checkHandle checks what a caller is told whose hold is over, and returns the
// task's id.
func checkHandle(ctx context.Context, t *testing.T, w wire, err error) (id string) {
	t.Helper()
	if got := connect.CodeOf(err); got != connect.CodeDeadlineExceeded {
		t.Errorf("%s: code = %v (%v), want deadline_exceeded", w.name, got, err)
		return ""
	}
	if got := contract.ReasonOf(err); got != momv1.Reason_REASON_CALL_STORED {
		t.Errorf("%s: reason = %v (%v), want CALL_STORED", w.name, got, err)
		return ""
	}
	handle := client.TaskFrom(err)
	if handle.GetState() != momv1.TaskState_TASK_STATE_QUEUED || !handle.GetExpireTime().IsValid() || handle.GetPollAfter().AsDuration() <= 0 {
		t.Errorf("%s: handle = %v, want a queued task, its end and when to ask", w.name, handle)
	}
	info, _ := connect.CallInfoForClientContext(ctx)
	want := map[string]string{
		contract.HeaderTask: handle.GetId(), "Location": "/v1/tasks/" + handle.GetId(), "Retry-After": "1", "Cache-Control": "no-store",
	}
	if w.protocol() != "connect" {
		want["Grpc-Retry-Pushback-Ms"] = "-1"
	} else if http, _ := connecthttp.ClientInfoForContext(ctx); http.ResponseStatus() != 202 {
		t.Errorf("%s: HTTP status = %d, want 202", w.name, http.ResponseStatus())
	}
	for key, want := range want {
		if got := info.ResponseHeader().Get(key); got != want {
			t.Errorf("%s: %s = %q, want %q", w.name, key, got, want)
		}
	}
	return handle.GetId()
}

// A handle is a 202 for plain HTTP; a bare respond-async is not held at all.
func TestAccepted(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Without: []string{"sum"}})
	for _, prefer := range []string{"wait=1", "wait=0", "respond-async", "respond-async, wait=1"} {
		t.Run(prefer, func(t *testing.T) {
			t.Parallel()
			res, body := post(t, sumURL(s), `{"a": 1, "b": 2}`, "Prefer: "+prefer)
			id := res.Header.Get(contract.HeaderTask)
			if res.StatusCode != http.StatusAccepted || id == "" || !strings.Contains(body, `"code":"deadline_exceeded"`) {
				t.Fatalf("got %d %s for task %q, want 202 with a Connect error", res.StatusCode, body, id)
			}
			for key, want := range map[string]string{
				"Location": "/v1/tasks/" + id, "Retry-After": "1", "Cache-Control": "no-store",
				"Content-Type": "application/json", contract.HeaderApplied: prefer,
			} {
				if got := res.Header.Get(key); got != want {
					t.Errorf("%s = %q, want %q", key, got, want)
				}
			}
		})
	}
}
