package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/client"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// A dead service and one that never answers keep no other's tasks.
func TestQueuesAreApart(t *testing.T) {
	t.Parallel()
	stuck := freeport.Addr(t)
	s := up(t, stack.Config{
		Without: []string{"subtraction"},
		Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + stuck},
	})
	release := make(chan struct{})
	defer close(release)
	l := ledger{during: func(context.Context, int64) { <-release }}
	run(t, l.serve(t, stuck))
	for i := range 20 {
		_, _ = wire{}.ask(t, s.Gateway, "Read", amounts(t, int64(i)), "Prefer: respond-async")
		post(t, "http://"+s.Gateway+"/arithmetic.v1.SubtractionService/Subtract", `{"a": 1, "b": 2}`, "Prefer: respond-async")
	}
	for i := range 20 {
		if res, body := post(t, sumURL(s), fmt.Sprintf(`{"a": %d, "b": 2}`, i), "Prefer: respond-async, wait=60"); body != fmt.Sprintf(`{"result":%d}`, i+2) {
			t.Fatalf("a task of another service: got %s %s", res.Status, body)
		}
	}
}

// While a queue drains, those who call the service now get more of it than the queue.
func TestLiveTrafficComesFirst(t *testing.T) {
	t.Parallel()
	const workers, callers, backlog = 4, 12, 400
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	desks := make(chan struct{}, workers)
	var live atomic.Int64 // calls with an amount of backlog and more
	l := ledger{during: func(_ context.Context, amount int64) {
		desks <- struct{}{}
		<-time.After(10 * time.Millisecond)
		<-desks
		if amount >= backlog {
			live.Add(1)
		}
	}}
	queues := queueService(t, s.Gateway)
	if _, err := queues.PauseQueue(t.Context(), &momv1.PauseQueueRequest{Service: ledgerService}); err != nil {
		t.Fatal(err)
	}
	h := house{addr: s.Gateway}
	ids := h.async(t, "Read", backlog)
	run(t, l.serve(t, addr))

	ctx, stop := context.WithCancel(t.Context())
	var calling sync.WaitGroup
	defer calling.Wait()
	defer stop()
	for range callers {
		calling.Go(func() {
			rpc := wire{http2: true}.client(t, s.Gateway)
			for ctx.Err() == nil {
				req := amounts(t, backlog)
				if err := rpc.CallUnary(ctx, ledgerSpec("Read"), req, dynamicpb.NewMessage(req.Descriptor())); err != nil && ctx.Err() == nil {
					t.Errorf("a live call: %v", err)
					return
				}
			}
		})
	}
	eventually(t, func() bool { return live.Load() > callers }, "the service is busy with live calls")
	if _, err := queues.ResumeQueue(t.Context(), &momv1.ResumeQueueRequest{Service: ledgerService}); err != nil {
		t.Fatal(err)
	}
	before := live.Load()
	tasks := client.New(wire{http2: true}.client(t, s.Gateway))
	for _, id := range ids {
		if err := tasks.Answer(t.Context(), id, amounts(t, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if got := live.Load() - before; got < backlog {
		t.Errorf("while %d tasks were sent, %d live calls were answered; want more", backlog, got)
	}
	t.Logf("%d live calls beside %d tasks", live.Load()-before, backlog)
}
