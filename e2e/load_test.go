package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/client"
	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
	"holdline/internal/load"
)

// door is a way into a house: one wire at one gateway.
type door struct {
	name   string
	client *connect.Client
}

// traffic makes calls at a rate, of all kinds, and writes down what comes back.
type traffic struct {
	doors []door
	entry protoreflect.MessageDescriptor
	kinds bool // half of the entries have a kind
	older bool // a MOM of an earlier release takes part

	callers  sync.WaitGroup
	calls    atomic.Int64 // begun
	names    atomic.Int64 // given
	mu       sync.Mutex
	requests []*request
}

const (
	// Of a hundred requests so many are sent with a key, and so many for a handle;
	// of these, so many of a hundred have a short life, or are taken back by their
	// caller. All others just call.
	keyedShare, asyncShare     = 20, 20
	shortShare, cancelledShare = 10, 10
	shortLife                  = "1s"
	// Of those who just call, so many of a hundred leave, within so long.
	leavingShare, leavingTime = 10, time.Second
	// Now and then so many calls come within a second, beside all others; half of
	// their callers leave.
	burstSize, burstTime  = 3000, time.Second
	leastQuiet, mostQuiet = 8 * time.Second, 16 * time.Second
	burstLeavingShare     = 50
	// A third of the keys have three callers at once.
	callersOfOneKey, oneOfKeys = 3, 3

	holdTime, callTime    = 2 * time.Second, 8 * time.Second
	mostCalls             = 6 // of one caller for one request, where sending it again is safe
	leastPause, mostPause = 50 * time.Millisecond, 500 * time.Millisecond
	mostUnderWay          = 8000
	loadTick              = 10 * time.Millisecond
)

// once keeps net/http from sending a call again by itself, as it does with a key: a
// reply then would be one to another call than the one that is written down.
type once struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (o once) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.GetBody != nil {
		clone := *req
		clone.GetBody = nil
		req = &clone
	}
	return o.RoundTripper.RoundTrip(req)
}

func newTraffic(tb testing.TB, addrs []string) *traffic {
	l := &traffic{entry: ledgerDescriptor().Messages().ByName("Entry")}
	for i, addr := range addrs {
		for _, w := range wires() {
			l.doors = append(l.doors, door{fmt.Sprint(w.name, " at gateway ", i), w.over(once{w.transport(tb)}, addr)})
		}
	}
	return l
}

// run makes so many calls a second until ctx ends, those that are sent again among
// them, and waits for all replies.
func (l *traffic) run(ctx context.Context, rng *rand.Rand, perSecond int) {
	defer l.callers.Wait()
	places := make(chan struct{}, mostUnderWay)
	tick := time.NewTicker(loadTick)
	defer tick.Stop()
	started := time.Now()
	burst := bursts{size: min(burstSize, 2*perSecond), next: quiet(rng)}
	for sent := int64(0); ; {
		beside := burst.due(time.Since(started), rng)
		for due := int64(time.Since(started).Seconds()*float64(perSecond)) + beside; l.calls.Load() < due; sent++ {
			leaving := leavingShare
			if burst.on {
				leaving = burstLeavingShare
			}
			r, headers := l.draw(rng, sent*10, leaving)
			seed := rng.Uint64()
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return
			}
			l.calls.Add(1)
			l.callers.Go(func() {
				defer func() { <-places }()
				l.settle(r, headers, rand.New(rand.NewPCG(seed, 0)))
			})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// bursts adds calls to the load, many within a short time.
type bursts struct {
	size  int
	next  time.Duration // when the next one begins
	on    bool
	added int64 // by those before
}

func quiet(rng *rand.Rand) time.Duration {
	return leastQuiet + time.Duration(rng.Int64N(int64(mostQuiet-leastQuiet)))
}

// due is how many calls bursts have added so far.
func (b *bursts) due(now time.Duration, rng *rand.Rand) int64 {
	since := now - b.next
	switch b.on = since >= 0; {
	case !b.on:
		return b.added
	case since < burstTime:
		return b.added + int64(float64(b.size)*since.Seconds()/burstTime.Seconds())
	}
	b.added += int64(b.size)
	b.next, b.on = now+quiet(rng), false
	return b.added
}

// draw makes up a request. So many of a hundred who just call leave.
func (l *traffic) draw(rng *rand.Rand, amount int64, leaving int) (r *request, headers []string) {
	r = &request{amount: amount, method: []string{"Read", "Post"}[rng.IntN(2)]}
	r.kind = l.kinds && rng.IntN(2) == 0
	headers = []string{fmt.Sprintf("Prefer: wait=%d", int(holdTime.Seconds()))}
	switch kind := rng.IntN(100); {
	case kind < keyedShare:
		r.key = fmt.Sprint("key-", amount)
		headers = append(headers, "Idempotency-Key: "+r.key)
	case kind < keyedShare+asyncShare:
		headers = []string{"Prefer: respond-async"}
		switch share := rng.IntN(100); {
		case share < shortShare:
			r.short = true
			headers = append(headers, "Holdline-Ttl: "+shortLife)
		case share < shortShare+cancelledShare:
			r.cancelled = true
		}
	default:
		r.left = rng.IntN(100) < leaving
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, r)
	return r, headers
}

// settle calls until there is nothing left that a caller may do. Some keys have
// several callers at once.
func (l *traffic) settle(r *request, headers []string, rng *rand.Rand) {
	if r.key == "" || rng.IntN(oneOfKeys) > 0 {
		l.insist(r, headers, rng)
		return
	}
	var same sync.WaitGroup
	l.calls.Add(callersOfOneKey - 1)
	for range callersOfOneKey {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 0))
		same.Go(func() { l.insist(r, headers, rng) })
	}
	same.Wait()
}

func (l *traffic) insist(r *request, headers []string, rng *rand.Rand) {
	for made := 1; ; made++ {
		door := l.doors[rng.IntN(len(l.doors))]
		for r.kind && strings.Contains(door.name, "json") {
			door = l.doors[rng.IntN(len(l.doors))]
		}
		got := l.call(door, r, headers)
		l.mu.Lock()
		r.replies = append(r.replies, got)
		l.mu.Unlock()
		if got.kind == handle && r.cancelled {
			l.cancel(got.task, rng)
		}
		again := got.notExecuted() || got.kind == broken && (r.method == "Read" || r.key != "") || got.kind == handle && r.key != ""
		if !again || r.left || made == mostCalls {
			return
		}
		<-time.After(leastPause + time.Duration(rng.Int64N(int64(mostPause))))
		l.calls.Add(1)
	}
}

// call makes one call. Its hold is over well before its deadline.
func (l *traffic) call(door door, r *request, headers []string) reply {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	if r.left {
		defer time.AfterFunc(rand.N(leavingTime), cancel).Stop()
	}
	name := strconv.FormatInt(l.names.Add(1), 10)
	ctx, info := withHeaders(ctx, append(headers[:len(headers):len(headers)], callHeader+": "+name)...)
	req, res := dynamicpb.NewMessage(l.entry), dynamicpb.NewMessage(l.entry)
	req.Set(l.entry.Fields().ByName("amount"), protoreflect.ValueOfInt64(r.amount))
	if r.kind {
		req.Set(l.entry.Fields().ByName("kind"), protoreflect.ValueOfEnum(2))
	}
	err := door.client.CallUnary(ctx, ledgerSpec(r.method), req, res)
	got := reply{call: name, by: door.name, kind: load.ReplyOf(err), task: info.ResponseHeader().Get(contract.HeaderTask)}
	switch got.kind {
	case answered:
		got.amount = amountOf(res)
	case handle:
		got.task = client.TaskFrom(err).GetId()
	default:
		got.code, got.reason, got.text = connect.CodeOf(err), contract.ReasonOf(err), err.Error()
	}
	return got
}

// cancel asks for a task's end. It may be too late.
func (l *traffic) cancel(id string, rng *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	tasks := momv1connect.NewTaskServiceClient(l.doors[rng.IntN(len(l.doors))].client)
	_, _ = tasks.CancelTask(ctx, &momv1.CancelTaskRequest{Id: id})
}
