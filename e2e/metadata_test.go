package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// theirs is metadata of callers and services whose names look like the protocols' own.
var theirs = map[string]string{
	"Grpc-Trace-Bin": "AAECAw", "Grpc-Tags-Bin": "AAEC", "Grpc-Server-Stats-Bin": "AAE", "Grpc-Previous-Rpc-Attempts": "2", "Grpc-Message-Type": "ledger.v1.Entry",
	"Grpc-Foo": "a", "Connect-Foo": "b", "X-Grpc-Web": "1", "Accept": "application/vnd.ledger", "Accept-Language": "eo", "Te-Deum": "c",
}

// met is what there is of such metadata in headers.
func met(header http.Header) map[string]string {
	found := map[string]string{}
	for key := range theirs {
		if values, ok := header[key]; ok {
			found[key] = strings.Join(values, "|")
		}
	}
	return found
}

// A service and its caller see the same metadata of each other, direct and replayed: what a protocol keeps for
// itself is little, and only that is written anew.
func TestMetadataReplayedAsDirect(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	var mu sync.Mutex
	seen := map[string]map[string]string{} // by wire and direct or not
	serve := func() (stop func()) {
		l := (&ledger{}).handler()
		return run(t, serveFunc(t, addr, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			seen[r.Header.Get("Ledger-Wire")] = met(r.Header)
			mu.Unlock()
			for key, value := range theirs {
				w.Header().Set(key, value)
			}
			l.ServeHTTP(w, r)
		}))
	}
	ask := func(w wire, how string, headers ...string) map[string]string {
		for key, value := range theirs {
			headers = append(headers, key+": "+value)
		}
		ctx, info := withHeaders(t.Context(), append(headers, "Ledger-Wire: "+w.name+how)...)
		res := dynamicpb.NewMessage(ledgerDescriptor().Messages().ByName("Entry"))
		if err := w.client(t, s.Gateway).CallUnary(ctx, ledgerSpec("Post"), amounts(t, 1), res); err != nil {
			t.Errorf("%s, %s: %v", w.name, how, err)
		}
		header := http.Header{}
		for key, values := range info.ResponseHeader().All() {
			header[key] = values
		}
		return met(header)
	}
	stop := serve()
	direct := map[string]map[string]string{}
	for _, w := range wires() {
		direct[w.name] = ask(w, "direct")
		if len(direct[w.name]) < 10 {
			t.Fatalf("%s: direct, its caller sees %v", w.name, direct[w.name])
		}
	}
	stop()
	var callers sync.WaitGroup
	for _, w := range wires() {
		callers.Go(func() {
			if got := ask(w, "replayed", "Prefer: wait=60"); !maps.Equal(got, direct[w.name]) {
				t.Errorf("%s: its caller sees %v, direct %v", w.name, got, direct[w.name])
			}
		})
	}
	awaitTasks(t, s.Gateway, len(wires()), momv1.TaskState_TASK_STATE_QUEUED)
	serve()
	callers.Wait()
	for _, w := range wires() {
		if got, want := seen[w.name+"replayed"], seen[w.name+"direct"]; !maps.Equal(got, want) {
			t.Errorf("%s: the service sees %v, direct %v", w.name, got, want)
		}
	}
}

// Clients of gRPC that show an error's trailers alone show the task: the handle's, its place, and that it is not to be
// retried; and which task an error is the answer of.
func TestHandleInTrailers(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	conn, err := grpc.NewClient(s.Gateway, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	call := func(key string) (metadata.MD, error) {
		var trailer metadata.MD
		ctx := metadata.AppendToOutgoingContext(t.Context(), "prefer", "respond-async", "idempotency-key", key)
		err := conn.Invoke(ctx, ledgerSpec("Post").Procedure, entry(t, "refuse: true"), dynamicpb.NewMessage(ledgerDescriptor().Messages().ByName("Entry")), grpc.Trailer(&trailer))
		return trailer, err
	}
	trailer, err := call("k")
	id := strings.Join(trailer.Get(contract.HeaderTask), "|")
	if status.Code(err) != codes.DeadlineExceeded || id == "" {
		t.Fatalf("got %v with %v, want a handle", err, trailer)
	}
	for key, want := range map[string]string{"Location": "/v1/tasks/" + id, "Retry-After": "1", "Grpc-Retry-Pushback-Ms": "-1"} {
		if got := strings.Join(trailer.Get(key), "|"); got != want {
			t.Errorf("trailer %s = %q, want %q", key, got, want)
		}
	}
	run(t, (&ledger{}).serve(t, addr))
	awaitState(t, s.Gateway, id, momv1.TaskState_TASK_STATE_FAILED)
	trailer, err = call("k")
	if got := strings.Join(trailer.Get(contract.HeaderTask), "|"); status.Code(err) != codes.FailedPrecondition || got != id {
		t.Errorf("the answer: %v with %v, want FailedPrecondition of %s", err, trailer, id)
	}
}

// grpcio calls the ledger, and prints the code and trailers of the error that it gets.
const grpcio = `
import grpc, sys
channel = grpc.insecure_channel(sys.argv[1])
call = channel.unary_unary(sys.argv[2], request_serializer=lambda b: b, response_deserializer=lambda b: b)
try:
    call(b"\x08\x01", metadata=[("prefer", "respond-async")], timeout=60)
except grpc.RpcError as err:
    print(err.code().name, {m.key: m.value for m in err.trailing_metadata() if not m.key.endswith("-bin")})
`

// Python's grpcio shows the handle, too.
func TestHandleInPython(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	if err := exec.CommandContext(t.Context(), python, "-c", "import grpc").Run(); err != nil {
		t.Skipf("needs python3-grpcio: %v", err)
	}
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + freeport.Addr(t)}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, err := exec.CommandContext(ctx, python, "-c", grpcio, s.Gateway, ledgerSpec("Post").Procedure).CombinedOutput()
	for _, want := range []string{"DEADLINE_EXCEEDED", fmt.Sprintf("'holdline-task': '%s.", ledgerService), "'location': '/v1/tasks/"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("got %s, %v; want %s", out, err, want)
		}
	}
}
