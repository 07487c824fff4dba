package e2e

import (
	"bufio"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/stack"
)

// A service that is frozen is as good as one that is down: calls that wait for it,
// and may run twice, are stored, and answered when it goes on.
func TestFrozenService(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Without: []string{"sum"}})
	service := start(t, build(t), "service", "sum", "--listen", s.Service["sum"])
	for i, w := range wires() { // each has a connection to it
		eventually(t, func() bool {
			ctx, _ := withHeaders(t.Context(), "Holdline-Mode: direct")
			res, err := w.sum(ctx, t, s, float64(i), 0.25)
			return err == nil && res.GetResult() == float64(i)+0.25
		}, "%s: the service answers", w.name)
	}
	service.freeze(t)
	var callers sync.WaitGroup
	defer callers.Wait()
	for i, w := range wires() {
		callers.Go(func() {
			ctx, _ := withHeaders(t.Context(), "Prefer: wait=60")
			res, err := w.sum(ctx, t, s, float64(i), 0.5)
			if err != nil || res.GetResult() != float64(i)+0.5 {
				t.Errorf("%s: sum = %v, %v, want %v", w.name, res, err, float64(i)+0.5)
			}
		})
	}
	awaitTasks(t, s.Gateway, len(wires()), momv1.TaskState_TASK_STATE_QUEUED)
	service.signal(t, syscall.SIGCONT)
}

// What asks a gateway that is frozen does not wait for ever, and says that there was no answer. What only watches goes on when the
// gateway does.
func TestFrozenGateway(t *testing.T) {
	t.Parallel()
	h := deploy(t, 1)
	server := h.addr
	top := command(t, server, nil, "queue", "top", "--json")
	out, err := top.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := top.Start(); err != nil {
		t.Fatal(err)
	}
	shown := bufio.NewScanner(out)
	if !shown.Scan() {
		t.Fatalf("queue top shows nothing: %v", shown.Err())
	}
	held := begin(t, command(t, server, nil, "call", ledgerService+"/Post", "--wait", "5m"))
	awaitTasks(t, h.momAddr[0], 1, momv1.TaskState_TASK_STATE_QUEUED)
	h.gateways[0].freeze(t)
	asked := begin(t, command(t, server, nil, "services"))
	if got := held(); got.status != 112 || !strings.Contains(got.stderr, "is not known") {
		t.Errorf("a call that is held: got %+v, want 112, and that its outcome is not known", got)
	}
	if got := asked(); got.status != 112 || !strings.Contains(got.stderr, "it is silent") {
		t.Errorf("services: got %+v, want 112, and that the gateway is silent", got)
	}
	h.gateways[0].signal(t, syscall.SIGCONT)
	for before := time.Now(); time.Since(before) < time.Second; { // past those on the way
		if !shown.Scan() {
			t.Fatalf("queue top has ended: %v", shown.Err())
		}
	}
	_ = top.Process.Signal(os.Interrupt)
	if err := top.Wait(); err != nil {
		t.Errorf("queue top: interrupted: %v", err)
	}
}
