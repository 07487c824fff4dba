package e2e

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/server"
	"holdline/internal/stack"
)

// latin is Latin-1, and so not UTF-8: what an ingress may write into a header.
const latin = "caf\xe9"

// latinLedger answers with Latin-1 in a trailer; beyond an amount of 100 also in the
// message of an error.
func latinLedger() *ledger {
	return &ledger{fail: func(info *connect.CallInfo, amount int64) error {
		info.ResponseTrailer().Set("Ledger-End", latin)
		if amount > 100 {
			return connect.NewError(connect.CodeFailedPrecondition, latin)
		}
		return nil
	}}
}

// Bytes that are not UTF-8 pass as they are, both ways, while the service is there and
// when it comes late; whoever reads the task gets the answer too.
func TestBytesThatAreNotUTF8(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	var callers sync.WaitGroup
	amount := int64(0)
	ask := func(w wire, method string, headers ...string) {
		for _, refused := range []int64{0, 100} {
			amount++
			req := amounts(t, amount+refused)
			callers.Go(func() { w.askLatin(t, s, method, req, headers...) })
		}
	}
	for _, w := range wires() {
		ask(w, "Post", "Prefer: wait=60")
		ask(w, "Read", "Prefer: wait=60")
	}
	awaitTasks(t, s.Gateway, int(amount), momv1.TaskState_TASK_STATE_QUEUED)
	l := latinLedger()
	run(t, l.serve(t, addr))
	callers.Wait()
	for _, w := range wires() {
		amount++
		w.askLatin(t, s, "Post", amounts(t, amount), "Prefer: wait=60", "Idempotency-Key: "+w.name)
	}
	if got := l.total(); got != int(amount) {
		t.Errorf("%d calls ran, want each of %d once", got, amount)
	}
}

// askLatin makes one call with Latin-1 in a header, and reads its task.
func (w wire) askLatin(tb testing.TB, s *stack.Stack, method string, req *dynamicpb.Message, headers ...string) {
	tb.Helper()
	ctx, info := withHeaders(tb.Context(), append(headers, "Ledger-Caller: "+latin, "Tracestate: a="+latin)...)
	res := dynamicpb.NewMessage(req.Descriptor())
	err := w.client(tb, s.Gateway).CallUnary(ctx, ledgerSpec(method), req, res)
	id := info.ResponseHeader().Get(contract.HeaderTask)
	refused := amountOf(req) > 100
	if code := connect.CodeOf(err); refused && code != connect.CodeFailedPrecondition || !refused && (err != nil || amountOf(res) != amountOf(req)+1) {
		tb.Errorf("%s: got %v, %v for %v (task %q)", w.name, res, err, req, id)
		return
	}
	if refused && strings.HasPrefix(w.name, "grpc") && !strings.HasSuffix(err.Error(), latin) {
		tb.Errorf("%s: the message is %q, want %q", w.name, err, latin)
	}
	for what, got := range map[string]string{
		"header":  info.ResponseHeader().Get("Ledger-Caller"),
		"trailer": info.ResponseTrailer().Get("Ledger-End"),
	} {
		if got != latin {
			tb.Errorf("%s: the %s is %q, want %q", w.name, what, got, latin)
		}
	}
	got, err := taskService(tb, s.Gateway).GetTask(tb.Context(), &momv1.GetTaskRequest{Id: id})
	if err != nil || got.GetAnswer().GetResult() == nil {
		tb.Errorf("%s: GetTask: %v, %v", w.name, got, err)
	}
	if read, body := post(tb, "http://"+s.Gateway+momv1connect.TaskServiceGetTaskProcedure, `{"id": "`+id+`"}`); read.StatusCode != http.StatusOK ||
		!strings.Contains(body, base64.StdEncoding.EncodeToString([]byte(latin))) || !refused && !strings.Contains(body, "ledger.v1.Entry") {
		tb.Errorf("%s: GetTask as JSON: %d %s", w.name, read.StatusCode, body)
	}
	status := http.StatusOK
	if refused {
		status = http.StatusBadRequest
	}
	readAnswer(tb, s.Gateway, id, status)
	readAnswer(tb, s.Gateway, id, status, "Accept: application/proto")
}

// Headers of Holdline in an answer are those of the task that the caller has, even
// when the service is behind another Holdline.
func TestServiceBehindAnotherHoldline(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	l := &ledger{fail: func(info *connect.CallInfo, _ int64) error {
		for _, header := range []*connect.Header{info.ResponseHeader(), info.ResponseTrailer()} {
			header.Set(contract.HeaderTask, "another")
			header.Set(contract.HeaderReplayed, "true")
			header.Set(contract.HeaderApplied, "wait=7")
		}
		return nil
	}}
	run(t, l.serve(t, addr))
	for _, w := range wires() {
		_, info := w.ask(t, s.Gateway, "Post", amounts(t, 1), "Idempotency-Key: "+w.name)
		for key, want := range map[string]string{contract.HeaderTask: ledgerService + ".0.", contract.HeaderReplayed: "", contract.HeaderApplied: ""} {
			got := info.ResponseHeader().Get(key)
			if !strings.HasPrefix(got, want) || want == "" && got != "" {
				t.Errorf("%s: %s = %q, want %q", w.name, key, got, want)
			}
			if got := info.ResponseTrailer().Get(key); got != "" {
				t.Errorf("%s: the trailer %s = %q, want none", w.name, key, got)
			}
		}
	}
}

// An answer that does not follow its schema hides nothing of its task, in JSON either.
func TestAnswerThatFollowsNoSchema(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	run(t, serveFunc(t, addr, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/proto")
		_, _ = io.WriteString(w, latin)
	}))
	res, _ := postEntry(t, s, "Post", "proto", nil, "Prefer: respond-async")
	id := res.Header.Get(contract.HeaderTask)
	awaitState(t, s.Gateway, id, momv1.TaskState_TASK_STATE_SUCCEEDED)
	raw := base64.StdEncoding.EncodeToString([]byte(latin))
	if read, body := post(t, "http://"+s.Gateway+momv1connect.TaskServiceGetTaskProcedure, `{"id": "`+id+`"}`); read.StatusCode != http.StatusOK || !strings.Contains(body, raw) {
		t.Errorf("GetTask as JSON: %d %s, want the bytes as %s", read.StatusCode, body, raw)
	}
	if got := readAnswer(t, s.Gateway, id, http.StatusOK, "Accept: application/proto"); got != latin {
		t.Errorf("the answer = %q, want %q", got, latin)
	}
	if got := readAnswer(t, s.Gateway, id, http.StatusNotAcceptable); reasonIn(t, got) != "ANSWER_UNREADABLE" || !strings.Contains(got, "application/proto") {
		t.Errorf("the answer as JSON: %s, want ANSWER_UNREADABLE with a word about application/proto", got)
	}
}

// A message of gRPC that is not percent-encoded as it should be loses no answer.
func TestMessageWithAPercentSign(t *testing.T) {
	t.Parallel()
	for name, announced := range map[string]string{"trailers": "Grpc-Status, Grpc-Message", "trailers only": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := freeport.Addr(t)
			s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
			run(t, serveFunc(t, addr, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/grpc")
				if announced != "" {
					w.Header().Set("Trailer", announced)
					w.WriteHeader(http.StatusOK)
				}
				w.Header().Set("Grpc-Status", "9")
				w.Header().Set("Grpc-Message", "100% of caf%E9")
			}))
			grpc := wire{"grpc", true, []connecthttp.Option{connecthttp.WithGRPC()}}
			got, _ := grpc.ask(t, s.Gateway, "Post", amounts(t, 1), "Prefer: respond-async, wait=60")
			if got.code != connect.CodeFailedPrecondition || got.text != "100% of "+latin {
				t.Errorf("got %v, want the service's error", got)
			}
		})
	}
}

// serveFunc opens the listener of a service that is a plain function. It has no health.
func serveFunc(tb testing.TB, addr string, serve http.HandlerFunc) *server.Server {
	tb.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/"+ledgerService+"/", serve)
	s, err := server.Listen(server.Config{Addr: addr, Handler: mux, Logger: testLog(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}
