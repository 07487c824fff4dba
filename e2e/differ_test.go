package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/client"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/redistest"
)

// olderImage writes a schema of the ledger that does not know an entry's kind.
func olderImage(tb testing.TB) string {
	tb.Helper()
	return imageAs(tb, func(file *descriptorpb.FileDescriptorProto) {
		entry := file.GetMessageType()[0]
		entry.Field = slices.DeleteFunc(entry.GetField(), func(f *descriptorpb.FieldDescriptorProto) bool { return f.GetName() == "kind" })
	})
}

// imageAs writes a schema of the ledger that is another.
func imageAs(tb testing.TB, change func(*descriptorpb.FileDescriptorProto)) string {
	tb.Helper()
	file := proto.CloneOf(ledgerFile())
	change(file)
	set := &descriptorpb.FileDescriptorSet{}
	for _, name := range file.GetDependency() {
		imported, err := protoregistry.GlobalFiles.FindFileByPath(name)
		if err != nil {
			tb.Fatal(err)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(imported))
	}
	set.File = append(set.File, file)
	raw, err := proto.Marshal(set)
	if err != nil {
		tb.Fatal(err)
	}
	name := filepath.Join(tb.TempDir(), "other.binpb")
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		tb.Fatal(err)
	}
	return name
}

// A MOM that knows less than its gateway takes what it can keep whole. Callers of the
// rest hear that their call is not stored, never that their service lacks it; and
// operators see the difference.
func TestMOMKnowsLess(t *testing.T) {
	t.Parallel()
	ownSystem(t)
	bin := build(t)
	place := freeport.Addr(t) // of the ledger, which is down
	route := []string{"--route", ledgerService + "=http://" + place}
	for _, c := range []struct {
		name string
		mom  []string
		want connect.Code
	}{
		{"no route", []string{"--route", "other.v1.Service=http://" + place}, connect.CodeUnavailable},
		{"no schema", route, connect.CodeUnavailable},
		{"no method", append(route[:2:2], "--schema", imageAs(t, withoutRead)), connect.CodeUnavailable},
		{"an older schema", append(route[:2:2], "--schema", olderImage(t)), connect.CodeDeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mom, addr, metrics := freeport.Addr(t), freeport.Addr(t), freeport.Addr(t)
			start(t, bin, append([]string{"mom", "--listen", mom, "--redis", redistest.New(t).URL()}, c.mom...)...)
			start(t, bin, append([]string{"gateway", "--listen", addr, "--metrics", metrics, "--mom", "http://" + mom, "--schema", ledgerImage(t)}, route...)...)
			awaitReady(t, mom)
			awaitReady(t, addr)
			for _, w := range wires() {
				for _, headers := range [][]string{{"Prefer: wait=0"}, {"Prefer: respond-async"}, {"Idempotency-Key: " + w.name, "Prefer: wait=0"}} {
					req := amounts(t, 1)
					ctx, _ := withHeaders(t.Context(), headers...)
					err := w.client(t, addr).CallUnary(ctx, ledgerSpec("Read"), req, dynamicpb.NewMessage(req.Descriptor()))
					reason := momv1.Reason_REASON_STORE_UNAVAILABLE
					if c.want == connect.CodeDeadlineExceeded {
						reason = momv1.Reason_REASON_CALL_STORED
					}
					if connect.CodeOf(err) != c.want || contract.ReasonOf(err) != reason || (client.TaskFrom(err) != nil) != (c.want == connect.CodeDeadlineExceeded) {
						t.Errorf("%s, %v: got %v, want %v, %v", w.name, headers, err, c.want, reason)
					}
				}
			}
			eventually(t, func() bool {
				return strings.Contains(scrape(t, metrics), `holdline_gateway_mom_differences{service="`+ledgerService+`"} 1`)
			}, "the difference is counted")
		})
	}
}

// withoutRead is the schema of before there was Read.
func withoutRead(file *descriptorpb.FileDescriptorProto) {
	service := file.GetService()[0]
	service.Method = slices.DeleteFunc(service.GetMethod(), func(m *descriptorpb.MethodDescriptorProto) bool { return m.GetName() == "Read" })
}

// Of two MOMs one does not know a method yet. Calls of it go to the other one, with a key as without.
func TestOneMOMKnowsLess(t *testing.T) {
	t.Parallel()
	ownSystem(t)
	bin, redis, addr := build(t), redistest.New(t), freeport.Addr(t)
	route := []string{"--route", ledgerService + "=http://" + freeport.Addr(t)} // which is down
	gateway := slices.Concat([]string{"gateway", "--listen", addr, "--schema", ledgerImage(t)}, route)
	for _, image := range []string{ledgerImage(t), imageAs(t, withoutRead)} {
		mom := freeport.Addr(t)
		start(t, bin, append([]string{"mom", "--listen", mom, "--redis", redis.URL(), "--schema", image}, route...)...)
		gateway = append(gateway, "--mom", "http://"+mom)
		awaitReady(t, mom)
	}
	start(t, bin, gateway...)
	awaitReady(t, addr)
	for _, w := range wires() {
		call := func(headers ...string) string {
			req := amounts(t, 1)
			ctx, info := withHeaders(t.Context(), append(headers, "Prefer: wait=0")...)
			err := w.client(t, addr).CallUnary(ctx, ledgerSpec("Read"), req, dynamicpb.NewMessage(req.Descriptor()))
			if contract.ReasonOf(err) != momv1.Reason_REASON_CALL_STORED {
				t.Errorf("%s, %v: got %v, want a handle", w.name, headers, err)
			}
			return info.ResponseHeader().Get(contract.HeaderTask)
		}
		for i := range 4 { // whichever MOM is asked first
			call()
			key := fmt.Sprintf("Idempotency-Key: %s-%d", w.name, i)
			if first, again := call(key), call(key); first != again || first == "" {
				t.Errorf("%s: task %q, then %q, want the same", key, first, again)
			}
		}
	}
}
