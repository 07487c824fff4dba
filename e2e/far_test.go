package e2e

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// farDeadlines are more than eight digits of seconds, more than Go can count, and the last there are.
var farDeadlines = []string{
	"Grpc-Timeout: 27778H", "Grpc-Timeout: 1752000H", "Grpc-Timeout: 99999999H", "Grpc-Timeout: 99999999M", "Grpc-Timeout: 99999999S",
	"Connect-Timeout-Ms: 9999999999",
}

// insisting sends a header that connect's clients would not.
type insisting struct {
	http.RoundTripper
	header string
}

// RoundTrip implements http.RoundTripper.
func (i insisting) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	key, value, _ := strings.Cut(i.header, ": ")
	req.Header.Set(key, value)
	return i.RoundTripper.RoundTrip(req)
}

// within calls the ledger with a deadline as a header says it.
func (w wire) within(tb testing.TB, deadline, addr, method string, headers ...string) (*dynamicpb.Message, error) {
	tb.Helper()
	ctx, _ := withHeaders(tb.Context(), headers...)
	res := dynamicpb.NewMessage(ledgerDescriptor().Messages().ByName("Entry"))
	err := w.over(insisting{w.transport(tb), deadline}, addr).CallUnary(ctx, ledgerSpec(method), amounts(tb, 1), res)
	return res, err
}

// speaks tells whether a header is one of the wire's protocol.
func (w wire) speaks(deadline string) bool {
	return (deadline[0] == 'C') == (w.protocol() == "connect")
}

// A deadline as far away as a protocol can say is one like any other: the call waits for its service.
func TestFarDeadlinesHeld(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	var callers sync.WaitGroup
	calls := 0
	for _, w := range wires() {
		for _, deadline := range farDeadlines {
			if !w.speaks(deadline) {
				continue
			}
			calls++
			callers.Go(func() {
				if got, err := w.within(t, deadline, s.Gateway, "Post", "Prefer: wait=60"); err != nil || amountOf(got) != 2 {
					t.Errorf("%s, %s: got %v, %v, want an answer", w.name, deadline, got, err)
				}
			})
		}
	}
	conn, err := grpc.NewClient(s.Gateway, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	calls++
	callers.Go(func() {
		ctx, cancel := context.WithTimeout(t.Context(), 200*365*24*time.Hour)
		defer cancel()
		res := dynamicpb.NewMessage(ledgerDescriptor().Messages().ByName("Entry"))
		if err := conn.Invoke(ctx, ledgerSpec("Post").Procedure, amounts(t, 1), res); err != nil || amountOf(res) != 2 {
			t.Errorf("grpc-go with a deadline in 200 years: %v, %v", res, err)
		}
	})
	awaitTasks(t, s.Gateway, calls, momv1.TaskState_TASK_STATE_QUEUED)
	run(t, (&ledger{}).serve(t, addr))
	callers.Wait()
}

// A service hears of a far deadline in as many digits as its protocol allows, whichever try it is.
func TestFarDeadlinesAtTheService(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	var mu sync.Mutex
	heard := map[string][]string{} // by what the caller sent
	l := &ledger{}
	run(t, serveFunc(t, addr, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		sent := r.Header.Get("Ledger-Deadline")
		heard[sent] = append(heard[sent], r.Header.Get("Grpc-Timeout")+r.Header.Get("Connect-Timeout-Ms"))
		again := len(heard[sent])%2 == 0
		mu.Unlock()
		if !again {
			contract.WriteError(w, r, connect.NewError(connect.CodeUnavailable, "not yet"))
			return
		}
		l.handler().ServeHTTP(w, r)
	}))
	for _, c := range []struct{ wire, deadline, want string }{ // a second has three tries
		{"grpc/proto/h2c", "Grpc-Timeout: 27778H", "1666680M"},
		{"grpcweb/json/h1", "Grpc-Timeout: 99999999H", "2562047H"},
		{"connect/json/h1", "Connect-Timeout-Ms: 9999999999", "99999999.."},
	} {
		if _, err := wireOf(c.wire).within(t, c.deadline, s.Gateway, "Read", "Holdline-Mode: direct", "Ledger-Deadline: "+c.deadline); err != nil {
			t.Errorf("%s: got %v, want an answer at the second try", c.deadline, err)
		}
		mu.Lock()
		tries := heard[c.deadline]
		mu.Unlock()
		if len(tries) != 2 || !regexp.MustCompile("^"+c.want+"$").MatchString(tries[1]) {
			t.Errorf("%s: the service heard %q, want %s at last", c.deadline, tries, c.want)
		}
	}
}

// A deadline of zero is over: nobody waits for what was asked for in no time.
func TestNoTimeAtAll(t *testing.T) {
	t.Parallel()
	serving, down := freeport.Addr(t), freeport.Addr(t)
	l := &ledger{}
	run(t, l.serve(t, serving))
	for _, addr := range []string{serving, down} {
		s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
		for _, w := range wires() {
			for _, deadline := range []string{"Grpc-Timeout: 0n", "Grpc-Timeout: 0H", "Connect-Timeout-Ms: 0"} {
				for _, task := range []string{"Prefer: wait=60", "Prefer: respond-async", "Idempotency-Key: " + w.name} {
					if !w.speaks(deadline) {
						continue
					}
					_, err := w.within(t, deadline, s.Gateway, "Post", task)
					if connect.CodeOf(err) != connect.CodeDeadlineExceeded || contract.ReasonOf(err) == momv1.Reason_REASON_CALL_STORED {
						t.Errorf("%s, %s, %s, up %v: got %v, want deadline_exceeded", w.name, deadline, task, addr == serving, err)
					}
				}
			}
		}
	}
}
