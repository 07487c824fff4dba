package e2e

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
)

// The number of shards is changed again and again under load, by two MOMs in turn, while both take
// calls: each call is answered and runs once, though both gateways are given its key at once.
func TestNumberOfShardsChangesUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, _ := s.mom(t, s.route(""))
	second, _ := s.mom(t, s.route(";shards=3"))
	gateways := []*house{s.gateway(t, s.route(";shards=2"), first, second), s.gateway(t, s.route(""), second, first)}
	var l ledger
	run(t, l.serve(t, s.ledger))

	over := make(chan struct{})
	var amount, done atomic.Int64
	var load sync.WaitGroup
	for i := range 8 {
		one, other := wire{http2: true}.client(t, gateways[i%2].addr), wire{http2: true}.client(t, gateways[1-i%2].addr)
		load.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				n := amount.Add(1)
				key := "Idempotency-Key: " + strconv.FormatInt(n, 10)
				var both sync.WaitGroup
				for _, rpc := range []*connect.Client{one, other} {
					both.Go(func() { answer(t, rpc, n, key, "Prefer: wait=60") })
				}
				both.Wait()
				answer(t, one, -n, "Prefer: respond-async, wait=60")
				done.Add(1)
			}
		})
	}
	for i, shards := range []int32{4, 1, 2, 6, 3, 6, 1, 5} {
		more := done.Load() + 16
		eventually(t, func() bool { return done.Load() >= more || t.Failed() }, "more calls")
		queues := queueService(t, []string{first, second}[i%2])
		res, err := queues.SetShards(t.Context(), &momv1.SetShardsRequest{Service: ledgerService, Shards: shards})
		if err != nil || res.GetQueue().GetShards() != shards {
			t.Errorf("SetShards: got %v, %v, want %d shards", res, err, shards)
		}
	}
	close(over)
	load.Wait()
	for n := int64(1); n <= amount.Load(); n++ {
		if l.ran(n) != 1 || l.ran(-n) != 1 {
			t.Errorf("call %d ran %d times with a key, and %d times without, want once", n, l.ran(n), l.ran(-n))
		}
	}
}

// answer makes a call of Post that is answered.
func answer(tb testing.TB, rpc *connect.Client, amount int64, headers ...string) {
	tb.Helper()
	res := amounts(tb, 0)
	ctx, _ := withHeaders(tb.Context(), headers...)
	if err := rpc.CallUnary(ctx, ledgerSpec("Post"), amounts(tb, amount), res); err != nil || amountOf(res) != amount+1 {
		tb.Errorf("call %d, %v: got %v, %v, want %d", amount, headers, amountOf(res), err, amount+1)
	}
}
