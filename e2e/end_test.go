package e2e

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/client"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// A gateway that is told to end leaves no caller without a word whose call has not ended when its drain is over: what may run twice is
// stored, and of the rest it says that it does not know. Most of these calls are plain ones until then.
func TestGatewayEnds(t *testing.T) {
	t.Parallel()
	const first = 1000 // of the amounts whose calls stay until their caller leaves, once
	h := deploy(t, 1)
	l := new(ledger)
	l.during = func(ctx context.Context, amount int64) {
		if amount >= first && l.ran(amount) == 1 {
			<-ctx.Done()
		}
	}
	run(t, l.serve(t, h.ledger))
	var lines jsonLines
	h.gateways[0].kill(t)
	h.gateways[0].log = &lines
	h.gateways[0].args = append(h.gateways[0].args, "--log-format", "json")
	h.gateways[0].restart(t)
	awaitReady(t, h.addr)

	var callers sync.WaitGroup
	calls := 0
	for _, w := range wires() {
		for _, method := range []string{"Read", "Post"} {
			rpc, amount := w.client(t, h.addr), int64(first+calls)
			calls++
			callers.Go(func() {
				for _, amount := range []int64{1, amount} {
					ctx, _ := withHeaders(t.Context())
					err := rpc.CallUnary(ctx, ledgerSpec(method), amounts(t, amount), dynamicpb.NewMessage(ledgerDescriptor().Messages().ByName("Entry")))
					switch {
					case amount < first && err == nil:
					case amount >= first && method == "Read" && (err == nil || client.TaskFrom(err) != nil): // whoever is quicker
					case amount >= first && method == "Read" && contract.ReasonOf(err) == momv1.Reason_REASON_STORE_UNCERTAIN: // the MOM was too slow for the second that is left
					case amount >= first && method == "Post" && contract.ReasonOf(err) == momv1.Reason_REASON_OUTCOME_UNKNOWN:
					default:
						t.Errorf("%s: %s of %d: %v", w.name, method, amount, err)
					}
				}
			})
		}
	}
	eventually(t, func() bool {
		for i := range calls {
			if l.ran(int64(first+i)) == 0 {
				return false
			}
		}
		return true
	}, "all calls run")
	h.gateways[0].signal(t, syscall.SIGTERM)
	callers.Wait()
	wait(t, h.gateways[0].gone, "the gateway has ended")
	if text := lines.text.String(); strings.Contains(text, "calls cut") {
		t.Errorf("calls were cut:\n%s", text)
	}
}
