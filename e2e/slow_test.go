package e2e

import (
	"context"
	"testing"

	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// A slow call does not keep those that come after it.
func TestSlowCall(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	entered, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	l := ledger{during: func(_ context.Context, amount int64) {
		if amount == 1 {
			close(entered)
			<-release
		}
	}}
	run(t, l.serve(t, addr))
	for range 3 {
		if got, _ := (wire{}).ask(t, s.Gateway, "Read", amounts(t, 0), "Prefer: respond-async, wait=10"); got.code != 0 {
			t.Fatalf("a quick call got %v", got)
		}
	}
	_, _ = wire{}.ask(t, s.Gateway, "Read", amounts(t, 1), "Prefer: respond-async")
	wait(t, entered, "the slow call is under way")
	if got, _ := (wire{}).ask(t, s.Gateway, "Read", amounts(t, 2), "Prefer: respond-async, wait=10"); got.code != 0 {
		t.Errorf("a call behind a slow one got %v, want its answer", got)
	}
}
