package e2e

import (
	"context"
	"net/http"
	"sync"
	"syscall"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/client"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// crowd are callers of one method who are held at the same time.
type crowd struct {
	leave   context.CancelFunc
	callers sync.WaitGroup
	errs    []error // by amount
}

// crowdFirst is the amount of a crowd's first call.
const crowdFirst = 1000

// crowd has n callers of Post call a gateway, and waits until all are held, beside so
// many tasks that were there before. Each is held for a minute.
func (h *house) crowd(tb testing.TB, addr string, n, before int) *crowd {
	tb.Helper()
	ctx, leave := context.WithCancel(tb.Context())
	tb.Cleanup(leave)
	c := &crowd{leave: leave, errs: make([]error, n)}
	transports := make([]http.RoundTripper, 1+n/200) // a server takes so many streams of one connection
	for i := range transports {
		transports[i] = wire{http2: true}.transport(tb)
	}
	for i := range n {
		rpc := wire{http2: true}.over(transports[i%len(transports)], addr)
		c.callers.Go(func() {
			req := amounts(tb, int64(crowdFirst+i))
			ctx, _ := withHeaders(ctx, "Prefer: wait=60")
			got := dynamicpb.NewMessage(req.Descriptor())
			for again := true; again; again = contract.ReasonOf(c.errs[i]) == momv1.Reason_REASON_STORE_UNAVAILABLE { // as it may be
				c.errs[i] = rpc.CallUnary(ctx, ledgerSpec("Post"), req, got)
			}
			if c.errs[i] == nil && amountOf(got) != int64(crowdFirst+i+1) {
				tb.Errorf("call %d was answered with %d", crowdFirst+i, amountOf(got))
			}
		})
	}
	h.awaitQueued(tb, n+before)
	return c
}

// awaitQueued waits until so many tasks of the ledger wait for it.
func (h *house) awaitQueued(tb testing.TB, n int) {
	tb.Helper()
	queues := queueService(tb, h.addr)
	eventually(tb, func() bool {
		res, err := queues.ListQueues(tb.Context(), &momv1.ListQueuesRequest{})
		return err == nil && len(res.GetQueues()) == 1 && res.GetQueues()[0].GetQueued() == int64(n)
	}, "%d tasks are queued", n)
}

// want checks that all callers got the same code and reason.
func (c *crowd) want(tb testing.TB, code connect.Code, reason momv1.Reason) {
	tb.Helper()
	c.callers.Wait()
	got := map[string]int{}
	for _, err := range c.errs {
		if err == nil && code == 0 || err != nil && connect.CodeOf(err) == code && contract.ReasonOf(err) == reason {
			continue
		}
		text := "an answer"
		if err != nil {
			text = err.Error()
		}
		got[text]++
	}
	if len(got) > 0 {
		tb.Errorf("of %d callers some got %v, want %v %v", len(c.errs), got, code, reason)
	}
}

const noReason = momv1.Reason_REASON_UNSPECIFIED

// A reset of the connections between gateways and MOMs is nobody's wish: the callers
// who are held over them are held on, and answered.
func TestHoldsOutliveTheirConnections(t *testing.T) {
	t.Parallel()
	for name, moms := range map[string]int{"one MOM": 1, "two MOMs": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 150
			h := deployAs(t, layout{moms: moms, bridged: true})
			c := h.crowd(t, h.addr, n, 0)
			for range 3 {
				for _, bridge := range h.bridges {
					bridge.reset()
				}
				for _, bridge := range h.bridges {
					awaitReady(t, bridge.addr)
				}
			}
			var l ledger
			run(t, l.serve(t, h.ledger))
			c.want(t, 0, noReason)
			if got := l.posted(); got != n {
				t.Errorf("Post ran %d times, want %d", got, n)
			}
		})
	}
}

// The callers of a gateway that was killed are gone, and so are their calls; those
// with a key are not.
func TestGatewayKilledWhileItHolds(t *testing.T) {
	t.Parallel()
	const n = 1000
	h := deployAs(t, layout{gateways: 2, moms: 2})
	kept := h.async(t, "Read", 3)
	h.crowd(t, h.addrs[1], n, 3)
	h.gateways[1].kill(t)
	h.awaitQueued(t, 3)
	var l ledger
	run(t, l.serve(t, h.ledger))
	h.checkAnswers(t, kept)
	if got := l.posted(); got != 0 {
		t.Errorf("%d calls of callers who are gone ran", got)
	}
}

// Callers who leave by the thousand take their calls along, behind a queue of others.
func TestCrowdLeaves(t *testing.T) {
	t.Parallel()
	const n, before = 2000, 300
	h := deployAs(t, layout{moms: 2})
	reads := h.async(t, "Read", before)
	c := h.crowd(t, h.addr, n, before)
	c.leave()
	h.awaitQueued(t, before)
	var l ledger
	run(t, l.serve(t, h.ledger))
	h.checkAnswers(t, reads)
	if got := l.posted(); got != 0 {
		t.Errorf("%d calls of callers who left ran", got)
	}
}

// A gateway that is told to end gives all whom it holds their handles, and ends.
func TestGatewayTerminatedWhileItHolds(t *testing.T) {
	t.Parallel()
	const n = 1000
	h := deployAs(t, layout{gateways: 2})
	c := h.crowd(t, h.addrs[1], n, 0)
	h.gateways[1].signal(t, syscall.SIGTERM)
	c.want(t, connect.CodeDeadlineExceeded, momv1.Reason_REASON_CALL_STORED)
	wait(t, h.gateways[1].gone, "the gateway has ended")
	var l ledger
	run(t, l.serve(t, h.ledger))
	tasks := client.New(wire{http2: true}.client(t, h.addr))
	for i, err := range c.errs {
		answer := amounts(t, 0)
		if err := tasks.Answer(t.Context(), client.TaskFrom(err).GetId(), answer); err != nil || amountOf(answer) != int64(crowdFirst+i+1) {
			t.Errorf("answer of call %d: %v, %v", i, answer, err)
		}
	}
	if got := l.posted(); got != n {
		t.Errorf("Post ran %d times, want %d", got, n)
	}
}

// A MOM that freezes while it holds wakes up and finds its caller gone, who has the
// handle: the task is there.
func TestMOMFreezesWhileItHolds(t *testing.T) {
	t.Parallel()
	h := deploy(t, 1)
	rpc := wire{http2: true}.client(t, h.addr)
	got := make(chan error, 1)
	go func() {
		req := amounts(t, 7)
		ctx, _ := withHeaders(t.Context(), "Prefer: wait=3")
		got <- rpc.CallUnary(ctx, ledgerSpec("Post"), req, dynamicpb.NewMessage(req.Descriptor()))
	}()
	h.awaitQueued(t, 1)
	h.moms[0].freeze(t)
	handle := client.TaskFrom(<-got)
	h.moms[0].signal(t, syscall.SIGCONT)
	if handle == nil {
		t.Fatal("the caller of a frozen MOM got no handle")
	}
	var l ledger
	run(t, l.serve(t, h.ledger))
	awaitState(t, h.momAddr[0], handle.GetId(), momv1.TaskState_TASK_STATE_SUCCEEDED)
}

// When the store has lost a task, whoever is held for it hears that, and not for long:
// whether the call may be sent again depends on its method alone.
func TestStoreLosesHeldTasks(t *testing.T) {
	t.Parallel()
	h := deploy(t, 1)
	rpc := wire{http2: true}.client(t, h.addr)
	read := make(chan error, 1)
	go func() {
		req := amounts(t, 7)
		ctx, _ := withHeaders(t.Context(), "Prefer: wait=60")
		read <- rpc.CallUnary(ctx, ledgerSpec("Read"), req, dynamicpb.NewMessage(req.Descriptor()))
	}()
	h.awaitQueued(t, 1)
	posts := h.crowd(t, h.addr, 20, 1)
	h.redis.Ask(t, "FLUSHALL")
	posts.want(t, connect.CodeUnknown, momv1.Reason_REASON_OUTCOME_UNKNOWN)
	if err := <-read; connect.CodeOf(err) != connect.CodeUnavailable || contract.ReasonOf(err) != momv1.Reason_REASON_STORE_UNCERTAIN {
		t.Errorf("the caller of a lost Read got %v, want STORE_UNCERTAIN", err)
	}
}

// A Redis that may evict keys loses tasks one by one: those who are held for one hear
// of it, though its name, the store's, is still there.
func TestStoreEvictsHeldTasks(t *testing.T) {
	t.Parallel()
	h := deploy(t, 1)
	posts := h.crowd(t, h.addr, 20, 0)
	h.redis.Ask(t, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	h.redis.Ask(t, "EVAL", "return redis.call('DEL', unpack(redis.call('KEYS', 'hl:*:t:*')))", "0")
	posts.want(t, connect.CodeUnknown, momv1.Reason_REASON_OUTCOME_UNKNOWN)
}
