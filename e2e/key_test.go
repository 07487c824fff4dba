package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// Ten thousand calls under one key, over two gateways and two MOMs, in every
// protocol, codec and version of HTTP, with GET among them where the method allows
// it: it runs once, and all get its answer. A thousand are under way at a time: the
// first thousand are all held before there is an answer, the others come after. Not
// in parallel: with such a load others' hand-offs may take more than their half second.
func TestOneKey(t *testing.T) {
	for _, method := range []string{"Post", "Read"} {
		t.Run(method, func(t *testing.T) { testOneKey(t, method) })
	}
}

func testOneKey(t *testing.T, method string) {
	const atOnce, burst, amount = 1000, 100, 41
	calls := map[string]int{"Post": 10_000, "Read": 2_000}[method] // one as the other, but for GET
	// The one run lasts until all are held, however busy the machine is.
	h := deployAs(t, layout{gateways: 2, moms: 2, route: ";attempt-timeout=10m"})
	release, keys := make(chan struct{}), make(chan string, 10)
	l := ledger{during: func(ctx context.Context, _ int64) {
		info, _ := connect.CallInfoForServerContext(ctx)
		keys <- info.RequestHeader().Get(contract.HeaderKey)
		select {
		case <-release:
		case <-ctx.Done():
		}
	}}
	run(t, l.serve(t, h.ledger))

	type caller struct {
		wire
		client *connect.Client
	}
	var callers []caller
	for _, addr := range h.addrs {
		for _, w := range wires() {
			callers = append(callers, caller{w, w.client(t, addr)})
		}
	}
	var mu sync.Mutex
	tasks, replayed := map[string]int{}, 0
	call := func(c caller) error {
		req := amounts(t, amount)
		got := dynamicpb.NewMessage(req.Descriptor())
		ctx, err := untilHeard(t, c.client, method, req, got)
		if err != nil || amountOf(got) != amount+1 {
			return fmt.Errorf("%s: got %v, %w, want %d", c.name, got, err, amount+1)
		}
		info, _ := connect.CallInfoForClientContext(ctx)
		mu.Lock()
		defer mu.Unlock()
		tasks[info.ResponseHeader().Get(contract.HeaderTask)]++
		if info.ResponseHeader().Get(contract.HeaderReplayed) == "true" {
			replayed++
		}
		return nil
	}
	// Another request under the key is refused while the first one runs, and after.
	conflict := func() {
		for _, c := range callers {
			req := amounts(t, amount+1)
			ctx, err := untilHeard(t, c.client, method, req, dynamicpb.NewMessage(req.Descriptor()))
			if connect.CodeOf(err) != connect.CodeInvalidArgument || contract.ReasonOf(err) != momv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED {
				t.Errorf("%s: another request got %v, want invalid_argument, IDEMPOTENCY_KEY_REUSED", c.name, err)
			}
			if http, ok := connecthttp.ClientInfoForContext(ctx); ok && c.protocol() == "connect" && http.ResponseStatus() != 422 {
				t.Errorf("%s: another request got HTTP %d, want 422", c.name, http.ResponseStatus())
			}
		}
	}

	var first errgroup.Group
	for i := range atOnce {
		first.Go(func() error {
			err := call(callers[i%len(callers)])
			if err != nil {
				t.Error(err) // at once: others may be waited for
			}
			return err
		})
		if (i+1)%burst == 0 {
			eventually(t, func() bool { return h.held(t) == i+1 }, "%d callers are held", i+1)
		}
	}
	conflict()
	eventually(t, func() bool { return h.held(t) == atOnce }, "%d callers are held", atOnce)
	close(release)
	if err := first.Wait(); err != nil {
		t.Fatal(err)
	}
	replayed = 0
	var others errgroup.Group
	others.SetLimit(atOnce)
	for i := range calls - atOnce {
		others.Go(func() error { return call(callers[i%len(callers)]) })
	}
	if err := others.Wait(); err != nil {
		t.Fatal(err)
	}
	// The key is known to MOMs that have just started.
	for _, mom := range h.moms {
		mom.kill(t)
		mom.restart(t)
	}
	h.awaitReady(t)
	for _, c := range callers {
		if err := call(c); err != nil {
			t.Error(err)
		}
	}
	conflict()

	if got, want := l.total(), 1; got != want {
		t.Errorf("ran %d times, want once", got)
	}
	if want := calls - atOnce + len(callers); replayed != want {
		t.Errorf("%d answers were there before, want %d", replayed, want)
	}
	if got := <-keys; len(tasks) != 1 || tasks[got] != calls+len(callers) {
		t.Errorf("tasks = %v, and the ledger saw %s %q; want one of %d calls", tasks, contract.HeaderKey, got, calls+len(callers))
	}
}

// untilHeard calls with the key. A machine that is too busy for the hand-off's half
// second says so; with a key, whatever was not answered may be sent again.
func untilHeard(tb testing.TB, client *connect.Client, method string, req, res *dynamicpb.Message) (context.Context, error) {
	tb.Helper()
	for {
		ctx, _ := withHeaders(tb.Context(), "Idempotency-Key: order-17", "Prefer: wait=300")
		err := client.CallUnary(ctx, ledgerSpec(method), req, res)
		switch contract.ReasonOf(err) {
		case momv1.Reason_REASON_STORE_UNCERTAIN, momv1.Reason_REASON_STORE_UNAVAILABLE, momv1.Reason_REASON_OUTCOME_UNKNOWN:
			continue
		}
		return ctx, err
	}
}

// held is how many callers the MOMs hold.
func (h *house) held(tb testing.TB) (n int) {
	tb.Helper()
	for _, addr := range h.metrics {
		for line := range strings.SplitSeq(scrape(tb, addr), "\n") {
			if value, ok := strings.CutPrefix(line, "holdline_mom_held_calls "); ok {
				held, err := strconv.Atoi(value)
				if err != nil {
					tb.Fatal(err)
				}
				n += held
			}
		}
	}
	return n
}
