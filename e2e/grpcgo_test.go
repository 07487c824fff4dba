package e2e

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// foreign is the ledger as grpc-go serves it: no health, no reflection, nothing
// of Holdline's. Its errors are trailers-only.
type foreign struct {
	addr    string
	options []grpc.ServerOption
	health  bool                                    // grpc-go's stock one
	tells   bool                                    // its schema, by grpc-go's stock reflection
	change  func(*descriptorpb.FileDescriptorProto) // of the schema that it tells; nil: none
	during  func(context.Context)                   // is called in each call; nil: nothing
	mu      sync.Mutex
	runs    int
}

func (f *foreign) handle(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // grpc-go's signature
	req := dynamicpb.NewMessage(ledgerDescriptor().Messages().ByName("Entry"))
	if err := decode(req); err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.runs++
	f.mu.Unlock()
	if f.during != nil {
		f.during(ctx)
	}
	fields := req.Descriptor().Fields()
	if req.Get(fields.ByName("refuse")).Bool() {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("ledger-balance", "even", "ledger-seal-bin", "\x00\xff"))
		refused := status.New(codes.FailedPrecondition, "no more entries — the book is “closed”")
		refused, err := refused.WithDetails(protoadapt.MessageV1Of(&errdetails.PreconditionFailure{
			Violations: []*errdetails.PreconditionFailure_Violation{{Type: "BOOK", Subject: "2026"}},
		}))
		if err != nil {
			return nil, err
		}
		return nil, refused.Err()
	}
	_ = grpc.SetHeader(ctx, metadata.Pairs("ledger-page", "7", "ledger-page", "8"))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("ledger-balance", "odd"))
	req.Set(fields.ByName("amount"), protoreflect.ValueOfInt64(amountOf(req)+1))
	return req, nil
}

// grpcEntries is a stream of grpc-go.
type grpcEntries struct {
	grpcMessages
}

// grpcMessages is what both sides of a stream have.
type grpcMessages interface {
	SendMsg(message any) error
	RecvMsg(message any) error
}

func (s grpcEntries) receive() (*dynamicpb.Message, error) {
	entry := dynamicpb.NewMessage(ledgerDescriptor().Messages().ByName("Entry"))
	return entry, s.RecvMsg(entry)
}

func (s grpcEntries) send(entry *dynamicpb.Message) error { return s.SendMsg(entry) }

// Run serves until ctx ends.
func (f *foreign) Run(ctx context.Context) error {
	ln, err := net.Listen("tcp", f.addr)
	if err != nil {
		return err
	}
	s := grpc.NewServer(f.options...)
	desc := &grpc.ServiceDesc{ServiceName: ledgerService, Methods: []grpc.MethodDesc{
		{MethodName: "Read", Handler: f.handle}, {MethodName: "Post", Handler: f.handle},
	}}
	for name, serve := range ledgerStreams {
		desc.Streams = append(desc.Streams, grpc.StreamDesc{StreamName: name, ServerStreams: true, ClientStreams: name == "Talk",
			Handler: func(_ any, stream grpc.ServerStream) error { return serve(grpcEntries{stream}) }})
	}
	s.RegisterService(desc, nil)
	if f.health {
		registerHealth(s)
	}
	if f.tells {
		told, files := ledgerDescriptor(), new(protoregistry.Files)
		if f.change != nil {
			file := proto.CloneOf(ledgerFile())
			f.change(file)
			if told, err = protodesc.NewFile(file, protoregistry.GlobalFiles); err != nil {
				return err
			}
		}
		if err := files.RegisterFile(told); err != nil {
			return err
		}
		reflectionv1.RegisterServerReflectionServer(s, reflection.NewServerV1(reflection.ServerOptions{Services: s, DescriptorResolver: files}))
	}
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	return s.Serve(ln)
}

// A service of grpc-go, without health or reflection, joins by a route and a schema: direct and
// replayed, its callers see the same, in every protocol and codec that there is.
func TestGRPCGo(t *testing.T) {
	t.Parallel()
	f := &foreign{addr: freeport.Addr(t)}
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + f.addr}})
	stop := run(t, f)
	native := wire{}
	for _, w := range wires() {
		if w.name == "grpc/proto/h2c" {
			native = w
		}
	}
	type exchange struct {
		wire         wire
		name, method string
		req          *dynamicpb.Message
		want         said
	}
	var all []exchange
	for name, req := range entries(t) {
		for _, method := range []string{"Read", "Post"} {
			var spoken said
			eventually(t, func() bool {
				spoken, _ = native.ask(t, s.Gateway, method, req, "Holdline-Mode: direct")
				return spoken.code != connect.CodeUnavailable // it has yet to listen
			}, "the service is up")
			if refused := spoken.code == connect.CodeFailedPrecondition; refused != (name == "refused") || len(spoken.metadata) == 0 {
				t.Fatalf("direct %s of %s: %v", method, name, spoken)
			}
			for _, w := range wires() {
				e := exchange{wire: w, name: name, method: method, req: req}
				e.want, _ = w.ask(t, s.Gateway, method, req, "Holdline-Mode: direct")
				if lossy := strings.Contains(w.name, "/json") && name == "unknown"; !lossy && !e.want.equal(spoken) {
					t.Errorf("%s: %s of %s: got %v, want %v, as in gRPC", w.name, method, name, e.want, spoken)
				}
				all = append(all, e)
			}
		}
	}
	stop()

	var callers sync.WaitGroup
	for _, e := range all {
		callers.Go(func() {
			got, info := e.wire.ask(t, s.Gateway, e.method, e.req, "Prefer: wait=60")
			if info.ResponseHeader().Get(contract.HeaderTask) == "" && info.ResponseTrailer().Get(contract.HeaderTask) == "" {
				t.Errorf("%s: %s of %s was not stored: %v", e.wire.name, e.method, e.name, got)
			}
			if !got.equal(e.want) {
				t.Errorf("%s: %s of %s:\nreplayed %v\ndirect   %v", e.wire.name, e.method, e.name, got, e.want)
			}
		})
	}
	awaitTasks(t, s.Gateway, len(all), momv1.TaskState_TASK_STATE_QUEUED)
	again := &foreign{addr: f.addr}
	run(t, again)
	callers.Wait()
	again.mu.Lock()
	defer again.mu.Unlock()
	if again.runs != len(all) {
		t.Errorf("%d calls ran, want each of %d once", again.runs, len(all))
	}
}

// A service with reflection joins by a route alone: callers of JSON reach it, and its outage is held.
func TestRouteIsAll(t *testing.T) {
	t.Parallel()
	f := &foreign{addr: freeport.Addr(t), tells: true}
	routes := []string{ledgerService + "=http://" + f.addr}
	s, end := upUntil(t, stack.Config{Routes: routes})
	url := "http://" + s.Gateway + "/" + ledgerService + "/Post"
	if res, body := post(t, url, `{"amount": "1"}`, "Prefer: wait=0"); res.StatusCode < 500 && res.Header.Get(contract.HeaderTask) == "" { // a run before has left the schema in the store
		t.Errorf("before its first start: got %d %s, want an error", res.StatusCode, body)
	}
	stop := run(t, f)
	awaitListening(t, f.addr)
	// Gateway and MOM have asked it in vain, and ask again since there is a call.
	if res, body := post(t, url, `{"amount": "1"}`, "Idempotency-Key: "+f.addr); res.StatusCode != http.StatusOK || res.Header.Get(contract.HeaderTask) == "" {
		t.Errorf("the first keyed call: got %d %s, want it answered as a task", res.StatusCode, body)
	}
	if res, body := post(t, url, `{"amount": "1"}`); res.StatusCode != http.StatusOK || !strings.Contains(body, `"2"`) {
		t.Errorf("JSON: got %d %s, want it translated", res.StatusCode, body)
	}
	stop()
	// The schema outlives both that have learned it.
	end()
	s, _ = upUntil(t, stack.Config{Routes: routes})
	url = "http://" + s.Gateway + "/" + ledgerService + "/Post"
	eventually(t, func() bool {
		res, body := post(t, url, `{"amount": "10"}`, "Prefer: respond-async")
		return res.StatusCode == http.StatusAccepted || !strings.Contains(body, "STORE_UNAVAILABLE") && !strings.Contains(body, "SERVICE_UNAVAILABLE")
	}, "a call is stored in the outage")
	var held sync.WaitGroup
	held.Go(func() {
		if res, body := post(t, url, `{"amount": "10"}`, "Prefer: wait=60"); res.StatusCode != http.StatusOK || !strings.Contains(body, `"11"`) {
			t.Errorf("held: got %d %s", res.StatusCode, body)
		}
	})
	awaitTasks(t, s.Gateway, 2, momv1.TaskState_TASK_STATE_QUEUED)
	run(t, &foreign{addr: f.addr, tells: true})
	held.Wait()
}
