package e2e

import (
	"context"
	"math"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// A MOM is killed while tasks wait, and again while it replays them: each of a
// thousand callers finds its answer.
func TestMOMKilled(t *testing.T) {
	t.Parallel()
	h := deploy(t, 1)
	const tasks, before = 1000, 200
	ids := h.async(t, "Read", tasks)
	h.moms[0].kill(t)
	h.moms[0].restart(t)

	var l ledger
	reached, killed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l.during = func(ctx context.Context, _ int64) {
		if l.total() < before {
			return
		}
		once.Do(func() { close(reached) })
		select { // under way when the MOM is killed
		case <-killed:
		case <-ctx.Done():
		}
	}
	run(t, l.serve(t, h.ledger))
	wait(t, reached, "the replay is under way")
	h.moms[0].kill(t)
	close(killed)
	h.moms[0].restart(t)
	awaitReady(t, h.momAddr[0])
	h.checkAnswers(t, ids)
}

// A MOM is killed while a call of an undeclared method is under way: it may have
// run, so nobody runs it again until a person says so.
func TestMOMKilledDuringUndeclared(t *testing.T) {
	t.Parallel()
	h := deploy(t, 1)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l := ledger{during: func(ctx context.Context, _ int64) {
		once.Do(func() { close(entered) })
		select {
		case <-release:
		case <-ctx.Done():
		}
	}}
	run(t, l.serve(t, h.ledger))
	ids := h.async(t, "Post", 1)
	wait(t, entered, "the call has reached the ledger")
	h.moms[0].kill(t)
	close(release)
	h.moms[0].restart(t)
	awaitReady(t, h.momAddr[0])

	task := awaitState(t, h.addr, ids[0], momv1.TaskState_TASK_STATE_UNCERTAIN)
	if got := l.ran(0); got != 1 || task.GetAttempts() != 1 {
		t.Errorf("ran %d times, %d attempts, want one of each", got, task.GetAttempts())
	}
	readAnswer(t, h.addr, ids[0], http.StatusInternalServerError)
	if _, err := taskService(t, h.addr).RetryTask(t.Context(), &momv1.RetryTaskRequest{Id: ids[0]}); err != nil {
		t.Fatalf("RetryTask: %v", err)
	}
	h.checkAnswers(t, ids)
	if got := l.ran(0); got != 2 {
		t.Errorf("after RetryTask: ran %d times in all, want 2", got)
	}
}

// Without Redis, or without a MOM, direct calls go on. A call that would have to
// be stored is refused at once, and never runs.
func TestNoStore(t *testing.T) {
	t.Parallel()
	h := deploy(t, 1)
	var l ledger
	run(t, l.serve(t, h.ledger))
	check := func(why string, direct, stored int64) {
		t.Helper()
		for _, w := range wires() {
			got, _ := w.ask(t, h.addr, "Post", amounts(t, direct))
			if got.code != 0 || amountOf(got.message) != direct+1 {
				t.Errorf("%s: %s: a direct call got %v, want %d", why, w.name, got, direct+1)
			}
			req := amounts(t, stored)
			ctx, _ := withHeaders(t.Context(), "Prefer: respond-async")
			rpc, least := w.client(t, h.addr), time.Duration(math.MaxInt64)
			for range 5 { // a busy machine may let one of them wait
				started := time.Now()
				err := rpc.CallUnary(ctx, ledgerSpec("Post"), req, dynamicpb.NewMessage(req.Descriptor()))
				least = min(least, time.Since(started))
				if connect.CodeOf(err) != connect.CodeUnavailable || contract.ReasonOf(err) != momv1.Reason_REASON_STORE_UNAVAILABLE {
					t.Errorf("%s: %s: a call to be stored got %v, want unavailable, STORE_UNAVAILABLE", why, w.name, err)
				}
				if least < time.Second {
					break
				}
			}
			if least > time.Second { // half a second, and something for a slow machine
				t.Errorf("%s: %s: refused after %v at least, want half a second at most", why, w.name, least)
			}
		}
		if got := l.ran(stored); got != 0 {
			t.Errorf("%s: refused calls ran %d times, want never", why, got)
		}
	}
	h.redis.Kill(t)
	// A connection that breaks with a call on it leaves that call uncertain,
	// honestly. There are two, picked at random: from when both have broken,
	// nothing is sent.
	eventually(t, func() bool {
		for range 20 {
			req := amounts(t, 9)
			ctx, _ := withHeaders(t.Context(), "Prefer: respond-async")
			err := wire{}.client(t, h.addr).CallUnary(ctx, ledgerSpec("Read"), req, dynamicpb.NewMessage(req.Descriptor()))
			if contract.ReasonOf(err) != momv1.Reason_REASON_STORE_UNAVAILABLE {
				return false
			}
		}
		return true
	}, "the MOM has noticed")
	check("no Redis", 10, 11)
	h.redis.Restart(t)
	eventually(t, func() bool {
		got, _ := wire{}.ask(t, h.addr, "Post", amounts(t, 12), "Prefer: respond-async, wait=10")
		return got.code == 0
	}, "calls are stored again")
	h.moms[0].kill(t)
	check("no MOM", 20, 21)
}

// wait waits for an event of the test's own making.
func wait(tb testing.TB, event <-chan struct{}, what string) {
	tb.Helper()
	select {
	case <-event:
	case <-time.After(time.Minute):
		tb.Fatalf("not within a minute: %s", what)
	}
}
