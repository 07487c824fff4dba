package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"connectrpc.com/grpchealth"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/internal/server"
)

// ledgerService is a service that no generated code knows: its schema exists in
// these tests alone, and reaches Holdline as a Buf image.
const ledgerService = "ledger.v1.LedgerService"

// Read may run twice, Post says nothing about it, Watch is a stream without an end. Count sends as many entries as the
// amount says, and Talk sends each entry back with one more.
const ledgerSchema = `
name: "ledger/v1/ledger.proto" package: "ledger.v1" syntax: "proto3"
enum_type { name: "Kind"
  value { name: "KIND_UNSPECIFIED" number: 0 }
  value { name: "KIND_DEBIT" number: 1 }
  value { name: "KIND_CREDIT" number: 2 } }
message_type { name: "Entry"
  field { name: "amount" number: 1 label: LABEL_OPTIONAL type: TYPE_INT64 json_name: "amount" }
  field { name: "kind" number: 2 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".ledger.v1.Kind" json_name: "kind" }
  field { name: "tags" number: 3 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".ledger.v1.Entry.TagsEntry" json_name: "tags" }
  field { name: "proof" number: 4 label: LABEL_OPTIONAL type: TYPE_BYTES json_name: "proof" }
  field { name: "owner" number: 5 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".ledger.v1.Entry.Party" json_name: "owner" }
  field { name: "refuse" number: 6 label: LABEL_OPTIONAL type: TYPE_BOOL json_name: "refuse" }
  nested_type { name: "TagsEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING json_name: "key" }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_INT64 json_name: "value" } }
  nested_type { name: "Party"
    field { name: "name" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING json_name: "name" }
    field { name: "behalf_of" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".ledger.v1.Entry.Party" json_name: "behalfOf" } } }
service { name: "LedgerService"
  method { name: "Read" input_type: ".ledger.v1.Entry" output_type: ".ledger.v1.Entry" options { idempotency_level: NO_SIDE_EFFECTS } }
  method { name: "Post" input_type: ".ledger.v1.Entry" output_type: ".ledger.v1.Entry" }
  method { name: "Watch" input_type: ".ledger.v1.Entry" output_type: ".ledger.v1.Entry" server_streaming: true }
  method { name: "Count" input_type: ".ledger.v1.Entry" output_type: ".ledger.v1.Entry" server_streaming: true }
  method { name: "Talk" input_type: ".ledger.v1.Entry" output_type: ".ledger.v1.Entry" client_streaming: true server_streaming: true } }
`

var ledgerFile = sync.OnceValue(func() *descriptorpb.FileDescriptorProto {
	var file descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(ledgerSchema), &file); err != nil {
		panic(err)
	}
	return &file
})

var ledgerDescriptor = sync.OnceValue(func() protoreflect.FileDescriptor {
	file, err := protodesc.NewFile(ledgerFile(), nil)
	if err != nil {
		panic(err)
	}
	return file
})

// ledgerImage writes the schema as `buf build -o` does, and returns the file.
func ledgerImage(tb testing.TB) string {
	tb.Helper()
	return imageOf(tb, ledgerFile())
}

func imageOf(tb testing.TB, file *descriptorpb.FileDescriptorProto) string {
	tb.Helper()
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{file}})
	if err != nil {
		tb.Fatal(err)
	}
	name := filepath.Join(tb.TempDir(), "image.binpb")
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		tb.Fatal(err)
	}
	return name
}

func ledgerSpec(method string) connect.Spec {
	md := ledgerDescriptor().Services().ByName("LedgerService").Methods().ByName(protoreflect.Name(method))
	stream := connect.StreamTypeUnary
	if md.IsStreamingServer() {
		stream |= connect.StreamTypeServer
	}
	if md.IsStreamingClient() {
		stream |= connect.StreamTypeClient
	}
	return connect.Spec{
		StreamType:       stream,
		Procedure:        "/" + ledgerService + "/" + method,
		Schema:           md,
		IdempotencyLevel: connect.IdempotencyLevel(md.Options().(*descriptorpb.MethodOptions).GetIdempotencyLevel()),
	}
}

// entry makes an Entry from its text form.
func entry(tb testing.TB, text string) *dynamicpb.Message {
	tb.Helper()
	msg := dynamicpb.NewMessage(ledgerDescriptor().Messages().ByName("Entry"))
	if err := prototext.Unmarshal([]byte(text), msg); err != nil {
		tb.Fatal(err)
	}
	return msg
}

// amounts makes an Entry of that amount.
func amounts(tb testing.TB, amount int64) *dynamicpb.Message {
	tb.Helper()
	return entry(tb, fmt.Sprintf("amount: %d", amount))
}

// amountOf reads an Entry.
func amountOf(msg *dynamicpb.Message) int64 {
	return msg.Get(msg.Descriptor().Fields().ByName("amount")).Int()
}

// ledger serves ledgerService: each entry comes back with one more on its amount,
// or is refused if it wants that. It counts.
type ledger struct {
	// during, if set, is called in each call.
	during func(ctx context.Context, amount int64)
	// fail, if set, may end a call with an error, after its headers and trailers
	// are set.
	fail func(info *connect.CallInfo, amount int64) error

	mu   sync.Mutex
	runs map[int64]int // by amount
	post int           // those of Post
}

// posted is how often Post has run.
func (l *ledger) posted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.post
}

// ran is how often the call with that amount has run.
func (l *ledger) ran(amount int64) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.runs[amount]
}

// total is how many calls have run.
func (l *ledger) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, runs := range l.runs {
		n += runs
	}
	return n
}

func (l *ledger) handle(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
	req := dynamicpb.NewMessage(ledgerDescriptor().Messages().ByName("Entry"))
	if err := stream.Receive(req); err != nil {
		return err
	}
	fields := req.Descriptor().Fields()
	amount := amountOf(req)
	l.mu.Lock()
	if l.runs == nil {
		l.runs = map[int64]int{}
	}
	l.runs[amount]++
	if spec.Procedure == ledgerSpec("Post").Procedure {
		l.post++
	}
	l.mu.Unlock()
	if l.during != nil {
		l.during(ctx, amount)
	}
	info, _ := connect.CallInfoForServerContext(ctx)
	info.ResponseHeader().Set("Ledger-Method", spec.Procedure)
	info.ResponseHeader().SetValues("Ledger-Page", []string{"7", "8"})
	info.ResponseHeader().Set("Ledger-Seal-Bin", connect.EncodeBinaryHeader([]byte{0, 255, 1}))
	info.ResponseHeader().Set("Ledger-Caller", info.RequestHeader().Get("Ledger-Caller"))
	info.ResponseTrailer().Set("Ledger-Balance", "even")
	if l.fail != nil {
		if err := l.fail(info, amount); err != nil {
			return err
		}
	}
	if req.Get(fields.ByName("refuse")).Bool() {
		return refusal(req)
	}
	req.Set(fields.ByName("amount"), protoreflect.ValueOfInt64(amount+1))
	return stream.Send(req)
}

// watch sends the entry that it got until its caller leaves.
func (l *ledger) watch(ctx context.Context, _ connect.Spec, stream connect.ServerStream) error {
	entry := dynamicpb.NewMessage(ledgerDescriptor().Messages().ByName("Entry"))
	if err := stream.Receive(entry); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := stream.Send(entry); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// entriesStream is a stream, whoever made it.
type entriesStream interface {
	receive() (*dynamicpb.Message, error)
	send(*dynamicpb.Message) error
}

// ledgerStreams are the streams with an end.
var ledgerStreams = map[string]func(entriesStream) error{
	"Count": func(s entriesStream) error {
		asked, err := s.receive()
		if err != nil {
			return err
		}
		for n := range amountOf(asked) {
			setAmount(asked, n+1)
			if err := s.send(asked); err != nil {
				return err
			}
		}
		return nil
	},
	"Talk": func(s entriesStream) error {
		for {
			entry, err := s.receive()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			setAmount(entry, amountOf(entry)+1)
			if err := s.send(entry); err != nil {
				return err
			}
		}
	},
}

func setAmount(entry *dynamicpb.Message, amount int64) {
	entry.Set(entry.Descriptor().Fields().ByName("amount"), protoreflect.ValueOfInt64(amount))
}

// connectEntries is a stream of connect.
type connectEntries struct{ connect.ServerStream }

func (s connectEntries) receive() (*dynamicpb.Message, error) {
	entry := dynamicpb.NewMessage(ledgerDescriptor().Messages().ByName("Entry"))
	return entry, s.Receive(entry)
}

func (s connectEntries) send(entry *dynamicpb.Message) error { return s.Send(entry) }

// refusal is a final error with details, one of which only the image knows.
func refusal(req *dynamicpb.Message) error {
	err := connect.NewError(connect.CodeFailedPrecondition, "no more entries — the book is “closed”")
	for _, msg := range []proto.Message{
		&errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{Type: "BOOK", Subject: "2026"}}},
		req,
	} {
		// The same bytes each time, which dynamic messages don't have else.
		value, marshalErr := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
		if marshalErr != nil {
			return marshalErr
		}
		err = err.WithDetail(&connect.ErrorDetail{Type: string(msg.ProtoReflect().Descriptor().FullName()), Value: value})
	}
	return err
}

// backwards writes fields in an order of its own, as other runtimes may: only
// who passes bytes on as they are keeps it.
type backwards struct{ *connectproto.BinaryCodec }

// MarshalWrite implements connect.Codec.
func (c backwards) MarshalWrite(ctx context.Context, dst io.Writer, msg any) error {
	m, ok := msg.(*dynamicpb.Message)
	if !ok {
		return c.BinaryCodec.MarshalWrite(ctx, dst, msg)
	}
	var raw []byte
	raw = append(raw, m.GetUnknown()...)
	fields := m.Descriptor().Fields()
	for i := fields.Len() - 1; i >= 0; i-- {
		if !m.Has(fields.Get(i)) {
			continue
		}
		one := dynamicpb.NewMessage(m.Descriptor())
		one.Set(fields.Get(i), m.Get(fields.Get(i)))
		part, err := proto.MarshalOptions{Deterministic: true}.Marshal(one)
		if err != nil {
			return err
		}
		raw = append(raw, part...)
	}
	_, err := dst.Write(raw)
	return err
}

// serve opens the ledger's listener.
func (l *ledger) serve(tb testing.TB, addr string) *server.Server {
	tb.Helper()
	s, err := server.Listen(server.Config{Addr: addr, Handler: l.handler(), Logger: testLog(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func (l *ledger) handler() http.Handler {
	rpc := connect.NewServer()
	for _, method := range []string{"Read", "Post"} {
		rpc.Register(connect.Method{Spec: ledgerSpec(method), Handler: l.handle})
	}
	rpc.Register(connect.Method{Spec: ledgerSpec("Watch"), Handler: l.watch})
	for name, serve := range ledgerStreams {
		rpc.Register(connect.Method{Spec: ledgerSpec(name), Handler: func(_ context.Context, _ connect.Spec, stream connect.ServerStream) error {
			return serve(connectEntries{stream})
		}})
	}
	mux := http.NewServeMux()
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(ledgerService)))
	connecthttp.Mount(mux, rpc, connecthttp.WithCodecs(backwards{connectproto.NewBinaryCodec()}, connectproto.NewJSONCodec()))
	return mux
}
