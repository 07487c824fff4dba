package e2e

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// Calls that crash their handler each time and some that are never answered are tasks of
// their own, and no sick service: the calls of others go on beside them.
func TestFastCallsBesideSickOnes(t *testing.T) {
	t.Parallel()
	const crashing, hanging, callers, each = 20, 4, 5, 25
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr + ";attempt-timeout=5m"}})
	l := &ledger{}
	release := make(chan struct{})
	defer close(release)
	brittle(t, addr, l, func(amount int64) bool {
		if amount > crashing && amount <= crashing+hanging {
			<-release
		}
		return amount <= crashing
	})
	ids := append(storeMany(t, s, "Read", 1, crashing), storeMany(t, s, "Post", crashing+1, hanging)...)

	var calling sync.WaitGroup
	var mu sync.Mutex
	var took []time.Duration
	for caller := range int64(callers) {
		calling.Go(func() {
			for i := range int64(each) {
				amount, began := 100+caller*each+i, time.Now()
				got, _ := wire{}.ask(t, s.Gateway, "Read", amounts(t, amount), "Idempotency-Key: "+strconv.FormatInt(amount, 10), "Prefer: wait=60")
				if got.code != 0 {
					t.Errorf("call %d: got %v, want its answer", amount, got)
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	calling.Wait()
	tellTimes(t, took)
	client := taskService(t, s.Gateway)
	for _, id := range ids {
		res, err := client.GetTask(t.Context(), &momv1.GetTaskRequest{Id: id})
		switch state := res.GetTask().GetState(); state {
		case momv1.TaskState_TASK_STATE_QUEUED, momv1.TaskState_TASK_STATE_RUNNING, momv1.TaskState_TASK_STATE_RETRYING:
		default:
			t.Errorf("the others had their answers when %s was %v (%v), want them before any sick call ends", id, state, err)
		}
	}
}

// As many calls as replay sends at once that hang keep nobody behind them, though nothing
// was answered before them.
func TestFastCallsBehindHangingOnes(t *testing.T) {
	t.Parallel()
	for hanging, fast := range map[string]string{"Post": "Read", "Read": "Post"} {
		t.Run(hanging, func(t *testing.T) {
			t.Parallel()
			const many, others = 64, 200
			addr := freeport.Addr(t)
			s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr + ";attempt-timeout=5m"}})
			storeMany(t, s, hanging, 1, many)
			ids := storeMany(t, s, fast, many+1, others)
			release := make(chan struct{})
			defer close(release)
			l := &ledger{}
			began := time.Now()
			brittle(t, addr, l, func(amount int64) bool {
				if amount <= many {
					<-release
				}
				return false
			})
			for _, task := range awaitEnds(t, s, ids) {
				if task.GetState() != momv1.TaskState_TASK_STATE_SUCCEEDED {
					t.Errorf("%s is %v, want it to succeed", task.GetId(), task.GetState())
				}
			}
			tellTimes(t, []time.Duration{time.Since(began)})
			for amount := range int64(many) {
				if got := l.ran(amount + 1); got > 1 {
					t.Errorf("the others had their answers after %d attempts at a call that hangs, want during the first", got)
				}
			}
		})
	}
}

func tellTimes(t *testing.T, took []time.Duration) {
	t.Helper()
	slices.Sort(took)
	late := 0
	for _, d := range took {
		if d > time.Second {
			late++
		}
	}
	t.Logf("%d calls: median %v, longest %v, %d longer than a second", len(took), took[len(took)/2], took[len(took)-1], late)
}
