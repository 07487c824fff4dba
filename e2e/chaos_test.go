package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
)

// What `make chaos` sets. `make test` has a short run of it.
var (
	chaosSeeds = flag.String("chaos.seeds", "1", "seeds of the faults and the load, by comma")
	chaosRate  = flag.Int("chaos.rate", 100, "calls a second")
	chaosTime  = flag.Duration("chaos.time", 8*time.Second, "how long each run lasts")
	chaosParts = flag.String("chaos.parts", "gateway,mom,redis,ledger,link,bridge", "what is made to fail, by comma")
	chaosLogs  = flag.String("chaos.logs", "error", "log level of gateways and MOMs")
	chaosFsync = flag.String("chaos.fsync", "always", "appendfsync of Redis; with another than always, what is lost is counted and no failure")
)

// Whatever is killed, slow, cut off or silent: an accepted call ends answered, and
// rightly; it reads the same twice; and what may not run twice does not.
func TestChaos(t *testing.T) {
	for seed := range strings.SplitSeq(*chaosSeeds, ",") {
		t.Run("seed="+seed, func(t *testing.T) {
			n, err := strconv.ParseUint(seed, 10, 64)
			if err != nil {
				t.Fatalf("-chaos.seeds: %v", err)
			}
			chaos(t, n)
		})
	}
}

func chaos(t *testing.T, seed uint64) {
	h := deployAs(t, layout{
		gateways: 2, moms: 2, ledgers: 2, linked: true, bridged: true, shifted: true,
		redis: []string{"--appendfsync", *chaosFsync}, flags: []string{"--log-level", *chaosLogs},
	})
	p := patient{h, h.startLedgers(t)}
	l := newTraffic(t, h.addrs)
	ctx, cancel := context.WithTimeout(t.Context(), *chaosTime)
	defer cancel()
	started := time.Now()
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		l.run(ctx, rand.New(rand.NewPCG(seed, 2)), *chaosRate)
	}()
	var bystanders sync.WaitGroup
	for _, addr := range h.addrs {
		bystanders.Go(func() { disturb(ctx, addr) })
	}
	// Another stream of numbers, so that the load does not change the plan.
	faults := p.suffer(t, plan(rand.New(rand.NewPCG(seed, 1)), p.parts(*chaosParts), *chaosTime))
	wait(t, loaded, "all calls have ended")
	took := time.Since(started)
	bystanders.Wait()

	hist := p.judge(t, l)
	findings := hist.check()
	sum := hist.sum(findings)
	t.Logf("| seed | calls | calls/s | requests | faults: gateways, MOMs, Redis, services; links | %s |\n| %d | %d | %.0f | %d | %d, %d, %d, %d; %d | %s |",
		strings.Join(verdicts, " | "), seed, l.calls.Load(), float64(l.calls.Load())/took.Seconds(), len(l.requests),
		faults["gateway"], faults["mom"], faults["redis"], faults["ledger"], faults["link"]+faults["bridge"], sum)
	if len(findings) > 0 && *chaosFsync == "always" {
		t.Errorf("%d findings with seed %d", len(findings), seed)
	}
}

// judge waits until all that a load has begun has ended, and logs what is wrong with it.
func (p patient) judge(t *testing.T, l *traffic) *history {
	t.Helper()
	p.awaitReady(t)
	p.awaitEnd(t)
	hist := &history{requests: l.requests, tasks: p.readAll(t, l.requests), runs: p.ran(t), older: l.older}
	findings := hist.check()
	for i, f := range findings {
		if i == 20 {
			t.Logf("and %d more", len(findings)-i)
			break
		}
		t.Logf("%s: %s", f.fault, f.text)
	}
	t.Logf("replies: %v", hist.replies())
	return hist
}

// awaitEnd waits until no task is open: leases that nobody holds end first.
func (h *house) awaitEnd(tb testing.TB) {
	tb.Helper()
	queues := queueService(tb, h.addr)
	eventually(tb, func() bool {
		res, err := queues.ListQueues(tb.Context(), &momv1.ListQueuesRequest{})
		if err != nil {
			return false
		}
		for _, q := range res.GetQueues() {
			if q.GetQueued()+q.GetRunning()+q.GetRetrying() > 0 {
				return false
			}
		}
		return true
	}, "no task is open")
}

// readAll reads every task that a caller knows of, at both gateways.
func (h *house) readAll(tb testing.TB, requests []*request) map[string]ending {
	tb.Helper()
	ids := make(chan string)
	go func() {
		defer close(ids)
		seen := map[string]bool{}
		for _, r := range requests {
			for _, reply := range r.replies {
				if reply.task != "" && !seen[reply.task] {
					seen[reply.task] = true
					ids <- reply.task
				}
			}
		}
	}()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	reader := &http.Client{Transport: transport}
	tasks := momv1connect.NewTaskServiceClient(wire{http2: true}.client(tb, h.addr))
	var mu sync.Mutex
	all := map[string]ending{}
	var readers sync.WaitGroup
	for range 32 {
		readers.Go(func() {
			for id := range ids {
				end, err := h.read(tb.Context(), tasks, reader, id)
				if err != nil {
					tb.Errorf("read task %s: %v", id, err)
				}
				mu.Lock()
				all[id] = end
				mu.Unlock()
			}
		})
	}
	readers.Wait()
	return all
}

func (h *house) read(ctx context.Context, tasks momv1connect.TaskServiceClient, reader *http.Client, id string) (end ending, err error) {
	res, err := tasks.WaitTask(ctx, &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(time.Minute)})
	if contract.ReasonOf(err) == momv1.Reason_REASON_TASK_NOT_FOUND {
		return end, nil
	}
	if err != nil {
		return end, err
	}
	end.state = res.GetTask().GetState()
	for i, addr := range h.addrs[:2] {
		if end.status[i], end.proto[i], err = readOnce(ctx, reader, addr, id, "application/proto"); err != nil {
			return end, err
		}
		if _, end.json[i], err = readOnce(ctx, reader, addr, id, "application/json"); err != nil {
			return end, err
		}
	}
	msg := dynamicpb.NewMessage(ledgerDescriptor().Messages().ByName("Entry"))
	if end.status[0] == http.StatusOK {
		err = proto.Unmarshal([]byte(end.proto[0]), msg)
	}
	end.amount = amountOf(msg)
	return end, err
}

func readOnce(ctx context.Context, reader *http.Client, addr, id, accept string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v1/tasks/"+id+"/answer", nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Accept", accept)
	res, err := reader.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if res.StatusCode == http.StatusServiceUnavailable { // the machine is busy
		return readOnce(ctx, reader, addr, id, accept)
	}
	return res.StatusCode, string(raw), err
}

// replies counts what came back.
func (h *history) replies() map[string]int {
	n := map[string]int{}
	for _, r := range h.requests {
		for _, reply := range r.replies {
			what := string(reply.kind)
			if !reply.accepted() {
				what = fmt.Sprint(what, " ", reply.code, " ", contract.Name(reply.reason))
			}
			n[what]++
		}
	}
	return n
}

// verdicts are the columns of sum.
var verdicts = []string{"accepted", "answered", "uncertain", "expired or cancelled", "refused", "nothing heard", "lost", "wrong", "doubled", "untrue"}

// sum counts requests by the best that their callers heard, and findings.
func (h *history) sum(findings []finding) string {
	n := map[string]int{}
	for _, r := range h.requests {
		best, accepted := "nothing heard", false
		for _, reply := range r.replies {
			accepted = accepted || reply.accepted()
			switch {
			case reply.kind == answered, h.tasks[reply.task].state == momv1.TaskState_TASK_STATE_SUCCEEDED:
				best = "answered"
			case best == "answered":
			case reply.kind == handle && h.tasks[reply.task].state != momv1.TaskState_TASK_STATE_UNCERTAIN:
				best = "expired or cancelled"
			case reply.kind == handle, reply.reason == momv1.Reason_REASON_OUTCOME_UNKNOWN:
				best = "uncertain"
			case reply.kind == refused && best == "nothing heard":
				best = "refused"
			}
		}
		n[best]++
		if accepted {
			n["accepted"]++
		}
	}
	for _, f := range findings {
		n[string(f.fault)]++
	}
	row := make([]string, len(verdicts))
	for i, column := range verdicts {
		row[i] = strconv.Itoa(n[column])
	}
	return strings.Join(row, " | ")
}
