package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

type connKey struct{}

// brittle serves a ledger whose calls take a while, and break their connection when
// they are poison.
func brittle(tb testing.TB, addr string, l *ledger, poison func(amount int64) bool) {
	tb.Helper()
	l.during = func(ctx context.Context, amount int64) {
		work := time.NewTimer(5 * time.Millisecond)
		defer work.Stop()
		select {
		case <-work.C:
		case <-ctx.Done():
		}
		if poison(amount) {
			conn, _ := ctx.Value(connKey{}).(*net.TCPConn)
			_ = conn.SetLinger(0)
			_ = conn.Close()
		}
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	s := &http.Server{
		Handler: l.handler(), Protocols: new(http.Protocols),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			tb.Errorf("serve: %v", err)
		}
	}()
	tb.Cleanup(func() {
		_ = s.Close()
		<-served
	})
}

// storeMany stores calls over gRPC, with amounts from one on, and returns their tasks.
func storeMany(tb testing.TB, s *stack.Stack, method string, from, n int64) []string {
	tb.Helper()
	grpc := wire{"grpc", true, []connecthttp.Option{connecthttp.WithGRPC()}}
	transport := grpc.transport(tb)
	ids := make([]string, n)
	var callers sync.WaitGroup
	for first := range int64(8) {
		callers.Go(func() {
			client := grpc.over(transport, s.Gateway)
			for i := first; i < n && tb.Context().Err() == nil; i += 8 {
				for ids[i] == "" { // the key allows to ask again on a busy machine
					ctx, info := withHeaders(tb.Context(), "Prefer: respond-async", fmt.Sprintf("Idempotency-Key: %d", from+i))
					err := client.CallUnary(ctx, ledgerSpec(method), amounts(tb, from+i), amounts(tb, 0))
					if connect.CodeOf(err) == connect.CodeDeadlineExceeded {
						ids[i] = info.ResponseHeader().Get(contract.HeaderTask)
					}
				}
			}
		})
	}
	callers.Wait()
	return ids
}

// awaitEnds waits until all tasks have ended, and returns them.
func awaitEnds(tb testing.TB, s *stack.Stack, ids []string) (tasks []*momv1.Task) {
	tb.Helper()
	client := taskService(tb, s.Gateway)
	for _, id := range ids {
		eventually(tb, func() bool {
			res, err := client.GetTask(tb.Context(), &momv1.GetTaskRequest{Id: id})
			if err != nil { // the store may be slow to answer
				return false
			}
			switch res.GetTask().GetState() {
			case momv1.TaskState_TASK_STATE_QUEUED, momv1.TaskState_TASK_STATE_RUNNING, momv1.TaskState_TASK_STATE_RETRYING:
				return false
			}
			tasks = append(tasks, res.GetTask())
			return true
		}, "%s has ended", id)
	}
	return tasks
}

// A task that breaks its connection makes no other uncertain.
func TestPoison(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	const calls, every = 500, 100
	ids := storeMany(t, s, "Post", 1, calls)
	l := &ledger{}
	brittle(t, addr, l, func(amount int64) bool { return amount%every == 0 })
	uncertain := 0
	for _, task := range awaitEnds(t, s, ids) {
		if task.GetState() == momv1.TaskState_TASK_STATE_UNCERTAIN {
			uncertain++
		}
	}
	if uncertain != calls/every {
		t.Errorf("%d of %d tasks are uncertain, want the %d that break their connections", uncertain, calls, calls/every)
	}
	for amount := range int64(calls) {
		if got := l.ran(amount + 1); got != 1 {
			t.Errorf("call %d ran %d times, want once", amount+1, got)
		}
	}
}

// A task that may run twice breaks the connection of its like once at most, and that
// of a task that may not run twice never.
func TestPoisonThatMayRunTwice(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	const calls, readsFrom, poison, times = 200, 1001, 1101, 5
	posts, reads := storeMany(t, s, "Post", 1, calls), storeMany(t, s, "Read", readsFrom, calls)
	l := &ledger{}
	brittle(t, addr, l, func(amount int64) bool { return amount == poison && l.ran(amount) <= times })
	for _, task := range awaitEnds(t, s, append(posts, reads...)) {
		most := int32(2)
		if task.GetId() == reads[poison-readsFrom] {
			most = times + 1
		}
		if task.GetState() != momv1.TaskState_TASK_STATE_SUCCEEDED || task.GetAttempts() > most {
			t.Errorf("%s is %v after %d attempts, want it to succeed after %d at most", task.GetId(), task.GetState(), task.GetAttempts(), most)
		}
	}
}

// A task that its service never answers keeps nobody waiting while the service is well.
func TestStuckCanary(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Read", "Post"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			addr := freeport.Addr(t)
			s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
			const poison, others = 1, 50
			storeMany(t, s, method, poison, 1)
			ids := storeMany(t, s, "Post", poison+1, others)
			l := &ledger{during: func(ctx context.Context, amount int64) {
				if amount == poison {
					<-ctx.Done()
				}
			}}
			run(t, l.serve(t, addr))
			for _, task := range awaitEnds(t, s, ids) {
				if task.GetState() != momv1.TaskState_TASK_STATE_SUCCEEDED {
					t.Errorf("%s is %v, want it to succeed", task.GetId(), task.GetState())
				}
			}
			if got := l.ran(poison); got != 1 {
				t.Errorf("the others had ended after %d attempts at the one that is stuck, want during the first", got)
			}
		})
	}
}
