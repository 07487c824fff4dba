package e2e

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// refuse is a ledger that refuses its first calls, and the times of all.
type refuse struct {
	ledger
	mu sync.Mutex
	at []time.Time
}

func refusing(times int, with func(*connect.CallInfo) error) *refuse {
	r := &refuse{}
	r.fail = func(info *connect.CallInfo, _ int64) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.at = append(r.at, time.Now())
		if len(r.at) <= times {
			return with(info)
		}
		return nil
	}
	return r
}

func closed() *connect.Error { return connect.NewError(connect.CodeUnavailable, "closed for lunch") }

func unavailable(*connect.CallInfo) error { return closed() }

func exhausted(*connect.CallInfo) error {
	return connect.NewError(connect.CodeResourceExhausted, "too many entries")
}

// naming makes an error name a time in a header or a trailer.
func naming(err func(*connect.CallInfo) error, key, value string) func(*connect.CallInfo) error {
	return func(info *connect.CallInfo) error {
		if strings.HasPrefix(key, "grpc-") {
			info.ResponseTrailer().Set(key, value)
		} else {
			info.ResponseHeader().Set(key, value)
		}
		return err(info)
	}
}

func withRetryInfo(*connect.CallInfo) error {
	return contract.WithDetail(closed(), &errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)})
}

// A service that sheds load makes no failures of stored calls: they are put back, no
// attempt is spent, and the service is left alone for as long as it asks.
func TestRefusedAtReplay(t *testing.T) {
	t.Parallel()
	grpc := wire{"grpc", true, []connecthttp.Option{connecthttp.WithGRPC()}}
	for _, c := range []struct {
		name    string
		wire    wire
		with    func(*connect.CallInfo) error
		options string // of the route
		headers []string
		asked   time.Duration
	}{
		{"exhausted", wire{}, exhausted, "", nil, time.Second},
		{"exhausted, gRPC", grpc, exhausted, "", nil, time.Second},
		{"exhausted, Retry-After", wire{}, naming(exhausted, "Retry-After", "2"), "", nil, 2 * time.Second},
		{"Retry-After", wire{}, naming(unavailable, "Retry-After", "2"), "", nil, 2 * time.Second},
		{"Retry-After, gRPC", grpc, naming(unavailable, "Retry-After", "2"), "", nil, 2 * time.Second},
		{"RetryInfo", wire{}, withRetryInfo, "", nil, 1500 * time.Millisecond},
		{"RetryInfo, gRPC", grpc, withRetryInfo, "", nil, 1500 * time.Millisecond},
		{"pushback", grpc, naming(unavailable, "grpc-retry-pushback-ms", "1500"), "", nil, 1500 * time.Millisecond},
		{"safe", wire{}, unavailable, ";refusals=safe", nil, time.Second},
		{"safe, gRPC", grpc, unavailable, ";refusals=safe", nil, time.Second},
		{"key", wire{}, unavailable, "", []string{"Idempotency-Key: k"}, time.Second},
		{"key, final", grpc, unavailable, ";refusals=final", []string{"Idempotency-Key: k"}, time.Second},
		{"key, exhausted", grpc, exhausted, "", []string{"Idempotency-Key: k"}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr := freeport.Addr(t)
			s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr + c.options}})
			l := refusing(2, c.with)
			run(t, l.serve(t, addr))
			got, info := c.wire.ask(t, s.Gateway, "Post", amounts(t, 1), append(c.headers, "Prefer: respond-async, wait=60")...)
			if got.code != 0 || amountOf(got.message) != 2 {
				t.Fatalf("got %v, want the answer", got)
			}
			task := awaitState(t, s.Gateway, info.ResponseHeader().Get(contract.HeaderTask), momv1.TaskState_TASK_STATE_SUCCEEDED)
			if task.GetAttempts() != 1 || len(l.at) != 3 {
				t.Errorf("%d attempts are spent and %d were made, want 1 of 3", task.GetAttempts(), len(l.at))
			}
			for i := 1; i < len(l.at); i++ {
				if pause := l.at[i].Sub(l.at[i-1]); pause < c.asked {
					t.Errorf("asked again after %v, want %v at least", pause, c.asked)
				}
			}
		})
	}
}

// unavailable without a time is final for an undeclared call without a key, and
// resource_exhausted of ours ends a task.
func TestFinalAtReplay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		with func(*connect.CallInfo) error
		code connect.Code
	}{
		"unavailable": {unavailable, connect.CodeUnavailable},
		"never":       {naming(unavailable, "grpc-retry-pushback-ms", "-1"), connect.CodeUnavailable},
		"answer too large behind another Holdline": {func(*connect.CallInfo) error {
			return contract.Errorf(momv1.Reason_REASON_ANSWER_TOO_LARGE, "the answer is larger than can be kept")
		}, connect.CodeResourceExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := freeport.Addr(t)
			s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
			l := refusing(1, c.with)
			run(t, l.serve(t, addr))
			if got, _ := (wire{}).ask(t, s.Gateway, "Post", amounts(t, 1), "Prefer: respond-async, wait=60"); got.code != c.code {
				t.Errorf("got %v, want %v", got, c.code)
			}
			if got := l.ran(1); got != 1 {
				t.Errorf("it ran %d times, want once", got)
			}
		})
	}
}

// Tasks that the service refuses for reasons of their own do not hold up others for good, and
// may still be cancelled.
func TestRefusedAlone(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	var refused atomic.Int64
	l := &ledger{fail: func(info *connect.CallInfo, amount int64) error {
		if amount == 1 {
			refused.Add(1)
			return exhausted(info)
		}
		return nil
	}}
	run(t, l.serve(t, addr))
	var id string
	for range 3 {
		_, info := wire{}.ask(t, s.Gateway, "Post", amounts(t, 1), "Prefer: respond-async")
		id = info.ResponseHeader().Get(contract.HeaderTask)
	}
	for times := range int64(4) {
		eventually(t, func() bool { return refused.Load() > times }, "the call is refused again")
		if got, _ := (wire{}).ask(t, s.Gateway, "Post", amounts(t, 2), "Prefer: respond-async, wait=60"); got.code != 0 {
			t.Fatalf("a call beside it: got %v, want its answer", got)
		}
	}
	awaitState(t, s.Gateway, id, momv1.TaskState_TASK_STATE_RETRYING)
	res, err := taskService(t, s.Gateway).CancelTask(t.Context(), &momv1.CancelTaskRequest{Id: id})
	if err != nil || res.GetTask().GetState() != momv1.TaskState_TASK_STATE_CANCELLED || res.GetTask().GetAttempts() != 0 {
		t.Errorf("CancelTask: %v, %v, want it cancelled with no attempt spent", res, err)
	}
}

// A proxy that sheds load without an RPC error is obeyed as the service is.
func TestBareRefusalAtReplay(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	l := &ledger{}
	var asked atomic.Int64
	run(t, serveFunc(t, addr, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			http.Error(w, "slow down", http.StatusTooManyRequests)
			return
		}
		l.handler().ServeHTTP(w, r)
	}))
	if got, _ := (wire{}).ask(t, s.Gateway, "Post", amounts(t, 1), "Prefer: respond-async, wait=60"); got.code != 0 {
		t.Errorf("got %v, want the answer", got)
	}
}
