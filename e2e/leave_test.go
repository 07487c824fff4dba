package e2e

import (
	"context"
	"sync"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// A held caller who leaves takes its call along; one with a key leaves it to
// run, once.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	var callers sync.WaitGroup
	leaving, leave := context.WithCancel(t.Context())
	defer leave()
	held := 0
	hold := func(w wire, at string, amount int64, headers ...string) {
		req := amounts(t, amount)
		client := w.client(t, at)
		held++
		callers.Go(func() {
			ctx, _ := withHeaders(leaving, append(headers, "Prefer: wait=60")...)
			err := client.CallUnary(ctx, ledgerSpec("Post"), req, dynamicpb.NewMessage(req.Descriptor()))
			if got := connect.CodeOf(err); got != connect.CodeCanceled {
				t.Errorf("%s: a caller who left got %v", w.name, err)
			}
		})
	}
	all := wires()
	for i, w := range all {
		hold(w, s.Gateway, int64(100+i))
		hold(w, s.Gateway, int64(200+i), "Idempotency-Key: "+w.name)
		hold(w, s.MOM, int64(300+i), "Holdline-Kept: 1") // as of a gateway that owes a handle
	}
	awaitTasks(t, s.Gateway, held, momv1.TaskState_TASK_STATE_QUEUED)
	leave()
	callers.Wait()
	awaitTasks(t, s.Gateway, len(all), momv1.TaskState_TASK_STATE_CANCELLED)

	var l ledger
	run(t, l.serve(t, addr))
	awaitTasks(t, s.Gateway, 2*len(all), momv1.TaskState_TASK_STATE_SUCCEEDED)
	for i, w := range all {
		if got := l.ran(int64(100 + i)); got != 0 {
			t.Errorf("%s: the call of a caller who left ran %d times, want never", w.name, got)
		}
		if got := l.ran(int64(200 + i)); got != 1 {
			t.Errorf("%s: the keyed call ran %d times, want once", w.name, got)
		}
		if got := l.ran(int64(300 + i)); got != 1 {
			t.Errorf("%s: the call whose handle was given ran %d times, want once", w.name, got)
		}
	}
}
