package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// entries are what is sent: full, refused, empty.
func entries(tb testing.TB) map[string]*dynamicpb.Message {
	tb.Helper()
	full := entry(tb, `amount: 9007199254740993 kind: KIND_CREDIT tags {key: "a" value: -1} tags {key: "b" value: 2}
		proof: "\000\377" owner {name: "Ada" behalf_of {name: "Grace — ☃"}}`)
	unknown := entry(tb, `amount: 3 kind: KIND_DEBIT`)
	unknown.SetUnknown([]byte{0xba, 0x06, 3, 'n', 'e', 'w'}) // field 103, of a later release
	return map[string]*dynamicpb.Message{
		"full":    full,
		"unknown": unknown,
		"empty":   entry(tb, ``),
		"refused": entry(tb, `amount: 5 refuse: true owner {name: "Ada"}`),
		// A value that this release of the enum does not have.
		"enum": entry(tb, `kind: 17`),
	}
}

// said is all that a caller can see of an answer.
type said struct {
	message  *dynamicpb.Message
	code     connect.Code
	text     string
	details  []*connect.ErrorDetail
	metadata map[string]string
}

func (s said) String() string {
	return fmt.Sprintf("%v %v %q %d details %v", s.message, s.code, s.text, len(s.details), s.metadata)
}

func (s said) equal(other said) bool {
	return proto.Equal(s.message, other.message) && s.code == other.code && s.text == other.text &&
		maps.Equal(s.metadata, other.metadata) &&
		slices.EqualFunc(s.details, other.details, func(a, b *connect.ErrorDetail) bool {
			return a.Type == b.Type && bytes.Equal(a.Value, b.Value)
		})
}

// ask calls the ledger.
func (w wire) ask(tb testing.TB, addr, method string, req *dynamicpb.Message, headers ...string) (said, *connect.CallInfo) {
	tb.Helper()
	ctx, info := withHeaders(tb.Context(), append(headers, "Ledger-Caller: Ada")...)
	got := said{message: dynamicpb.NewMessage(req.Descriptor()), metadata: map[string]string{}}
	if err := w.client(tb, addr).CallUnary(ctx, ledgerSpec(method), req, got.message); err != nil {
		var rpcErr *connect.Error
		if errors.As(err, &rpcErr) {
			got.text, got.details = rpcErr.Message(), rpcErr.Details()
		}
		got.code = connect.CodeOf(err)
	}
	for place, header := range map[string]*connect.Header{"header ": info.ResponseHeader(), "trailer ": info.ResponseTrailer()} {
		for key, values := range header.All() {
			if strings.HasPrefix(key, "Ledger-") {
				got.metadata[place+key] = strings.Join(values, "|")
			}
		}
	}
	return got, info
}

// What a caller sees of an answer is the same whether its call was direct or
// replayed: message, error, details, headers, trailers; in every protocol and
// codec, for a schema that came as an image.
func TestReplayedAsDirect(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	direct := run(t, (&ledger{}).serve(t, addr))

	type exchange struct {
		wire
		name, method string
		req          *dynamicpb.Message
		want         said
	}
	var all []exchange
	for _, w := range wires() {
		for name, req := range entries(t) {
			for _, method := range []string{"Read", "Post"} {
				want, _ := w.ask(t, s.Gateway, method, req)
				if refused := want.code == connect.CodeFailedPrecondition; refused != (name == "refused") || len(want.metadata) != 5 {
					t.Fatalf("%s: direct %s of %s: %v", w.name, method, name, want)
				}
				all = append(all, exchange{w, name, method, req, want})
			}
		}
	}
	direct()

	var callers sync.WaitGroup
	for i, e := range all {
		callers.Go(func() {
			got, info := e.ask(t, s.Gateway, e.method, e.req, "Prefer: wait=60")
			if info.ResponseHeader().Get(contract.HeaderTask) == "" {
				t.Errorf("%s: %s of %s was not stored: %v", e.wire.name, e.method, e.name, got)
			}
			if !got.equal(e.want) {
				t.Errorf("%s: %s of %s:\nreplayed %v\ndirect   %v", e.wire.name, e.method, e.name, got, e.want)
			}
		})
		if (i+1)%10 == 0 || i+1 == len(all) { // not all at once: this is no load test
			awaitTasks(t, s.Gateway, i+1, momv1.TaskState_TASK_STATE_QUEUED)
		}
	}
	again := &ledger{}
	run(t, again.serve(t, addr))
	callers.Wait()
	if got := again.total(); got != len(all) {
		t.Errorf("%d calls ran, want each of %d once", got, len(all))
	}
}

// Callers of the binary codec get the very bytes that the service sent.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	stop := run(t, (&ledger{}).serve(t, addr))
	call := func(req []byte, headers ...string) (*http.Response, string) {
		out, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Gateway+"/"+ledgerService+"/Post", bytes.NewReader(req))
		if err != nil {
			t.Error(err)
			return nil, ""
		}
		out.Header.Set("Content-Type", "application/proto")
		for _, h := range headers {
			key, value, _ := strings.Cut(h, ": ")
			out.Header.Set(key, value)
		}
		res, err := plain.Do(out)
		if err != nil {
			t.Error(err)
			return nil, ""
		}
		defer func() { _ = res.Body.Close() }()
		raw, err := io.ReadAll(res.Body)
		if err != nil {
			t.Error(err)
		}
		return res, string(raw)
	}
	requests, want := map[string][]byte{}, map[string]string{}
	for _, name := range []string{"full", "unknown", "empty", "enum"} {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(entries(t)[name])
		if err != nil {
			t.Fatal(err)
		}
		requests[name] = raw
		_, want[name] = call(raw)
	}
	stop()

	var callers sync.WaitGroup
	for name, raw := range requests {
		callers.Go(func() {
			res, got := call(raw, "Prefer: wait=60", "Idempotency-Key: "+name)
			if got != want[name] {
				t.Errorf("%s: replayed %q, direct %q", name, got, want[name])
			}
			if res == nil {
				return
			}
			id := res.Header.Get(contract.HeaderTask)
			if read := readAnswer(t, s.Gateway, id, http.StatusOK, "Accept: application/proto"); read != want[name] {
				t.Errorf("%s: answer read %q, direct %q", name, read, want[name])
			}
		})
	}
	awaitTasks(t, s.Gateway, len(requests), momv1.TaskState_TASK_STATE_QUEUED)
	run(t, (&ledger{}).serve(t, addr))
	callers.Wait()
}
