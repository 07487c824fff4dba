package gateway_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"holdline/gateway"
	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
	"holdline/internal/route"
	"holdline/internal/server/servertest"
)

// offer is a call as the gateway offers it to a MOM.
type offer struct {
	number    int // from 1
	id, cause string
	header    http.Header
}

// standIn keeps the contract of a MOM, without a store: it says that it has the
// call, and then that the call was answered.
type standIn struct {
	addr string
	// answer is given in place of that.
	answer func(w http.ResponseWriter, r *http.Request, o offer)

	holds  http.Handler // of the gateway's words
	schema []byte       // what it knows of each service; nil: nothing
	store  string       // its name

	mu              sync.Mutex
	offers          []offer
	kept, abandoned []string
}

func newStandIn(tb testing.TB, answer func(w http.ResponseWriter, r *http.Request, o offer)) *standIn {
	tb.Helper()
	m := &standIn{answer: answer}
	if answer == nil {
		m.answer = hold
	}
	rpc := connect.NewServer()
	momv1connect.RegisterHoldServiceHandler(rpc, m)
	mux := http.NewServeMux()
	connecthttp.Mount(mux, rpc)
	m.holds = mux
	m.addr = serve(tb, m)
	return m
}

// KeepTasks implements momv1connect.HoldServiceHandler.
func (m *standIn) KeepTasks(_ context.Context, req *momv1.KeepTasksRequest) (*momv1.KeepTasksResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = append(m.kept, req.GetIds()...)
	return &momv1.KeepTasksResponse{}, nil
}

// GetSchema implements momv1connect.HoldServiceHandler.
func (m *standIn) GetSchema(context.Context, *momv1.GetSchemaRequest) (*momv1.GetSchemaResponse, error) {
	if m.schema != nil {
		return &momv1.GetSchemaResponse{Files: m.schema}, nil
	}
	return nil, connect.NewError(connect.CodeNotFound, "no schema")
}

// AbandonTasks implements momv1connect.HoldServiceHandler.
func (m *standIn) AbandonTasks(_ context.Context, req *momv1.AbandonTasksRequest) (*momv1.AbandonTasksResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.abandoned = append(m.abandoned, req.GetIds()...)
	return &momv1.AbandonTasksResponse{}, nil
}

// ListRoutes implements momv1connect.HoldServiceHandler: it knows none.
func (m *standIn) ListRoutes(context.Context, *momv1.ListRoutesRequest) (*momv1.ListRoutesResponse, error) {
	return &momv1.ListRoutesResponse{Store: m.store}, nil
}

// ServeHTTP takes every unary call, and the health checks of the gateway.
func (m *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") {
		http.NotFound(w, r) // healthy, as long as it can be dialled
		return
	}
	if strings.HasPrefix(r.URL.Path, "/"+momv1connect.HoldServiceName+"/") {
		m.holds.ServeHTTP(w, r)
		return
	}
	if r.Method == "PRI" { // httptest knows HTTP/1.1 alone, and net/http leaves the rest to handlers
		w.WriteHeader(http.StatusHTTPVersionNotSupported)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	o := offer{id: r.Header.Get(contract.HeaderTask), cause: r.Header.Get(contract.HeaderCause), header: r.Header}
	m.mu.Lock()
	o.number = len(m.offers) + 1
	m.offers = append(m.offers, o)
	m.mu.Unlock()
	m.answer(w, r, o)
}

func (m *standIn) got() []offer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.offers)
}

// awaitKept waits until the gateway has said that a task is to be kept.
func (m *standIn) awaitKept(tb testing.TB, id string) { m.await(tb, &m.kept, id, "kept") }

// awaitAbandoned waits until the gateway has said that a task's caller left.
func (m *standIn) awaitAbandoned(tb testing.TB, id string) {
	m.await(tb, &m.abandoned, id, "abandoned")
}

func (m *standIn) await(tb testing.TB, list *[]string, id, what string) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(30 * time.Second); ; {
		m.mu.Lock()
		said := slices.Contains(*list, id)
		m.mu.Unlock()
		if said {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("the MOM was never told that task %s is %s", id, what)
		}
	}
}

// accept says that the call is stored.
func accept(w http.ResponseWriter, o offer) {
	w.Header().Set(contract.HeaderTask, o.id)
	contract.Inform(w, http.StatusEarlyHints)
}

// hold stores the call and answers it.
func hold(w http.ResponseWriter, r *http.Request, o offer) {
	accept(w, o)
	contentType := r.Header.Get("Content-Type")
	w.Header().Set("Content-Type", contentType)
	switch {
	case strings.HasPrefix(contentType, "application/grpc-web"):
		_, _ = io.WriteString(w, message+envelope(0x80, "grpc-status: 0\r\n"))
	case strings.HasPrefix(contentType, "application/grpc"):
		_, _ = io.WriteString(w, message)
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	default:
		_, _ = io.WriteString(w, "{}")
	}
}

// ids are the different task ids that were offered.
func ids(offers ...[]offer) (list []string) {
	for _, some := range offers {
		for _, o := range some {
			list = append(list, o.id)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// faultSchemas knows the service of the table.
func faultSchemas(tb testing.TB) *route.Schemas {
	tb.Helper()
	return schemasOf(tb, []string{faultService})
}

// schemasOf knows services with the methods of the table.
func schemasOf(tb testing.TB, names []string) *route.Schemas {
	tb.Helper()
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("test/v1/odd.proto"), Package: proto.String("test.v1"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Nothing")}},
	}
	for _, name := range names {
		s := &descriptorpb.ServiceDescriptorProto{Name: proto.String(strings.TrimPrefix(name, "test.v1."))}
		for _, m := range []string{"Get", "Put", "Add", "Watch"} {
			level := map[string]descriptorpb.MethodOptions_IdempotencyLevel{"Get": descriptorpb.MethodOptions_NO_SIDE_EFFECTS, "Put": descriptorpb.MethodOptions_IDEMPOTENT}[m]
			s.Method = append(s.Method, &descriptorpb.MethodDescriptorProto{
				Name: proto.String(m), InputType: proto.String(".test.v1.Nothing"), OutputType: proto.String(".test.v1.Nothing"),
				Options: &descriptorpb.MethodOptions{IdempotencyLevel: level.Enum()}, ServerStreaming: proto.Bool(m == "Watch"),
			})
		}
		file.Service = append(file.Service, s)
	}
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{file}})
	if err != nil {
		tb.Fatal(err)
	}
	image := filepath.Join(tb.TempDir(), "image.binpb")
	if err := os.WriteFile(image, raw, 0o600); err != nil {
		tb.Fatal(err)
	}
	schemas, err := route.LoadSchemas(image)
	if err != nil {
		tb.Fatal(err)
	}
	return schemas
}

// newGateway makes a gateway before the service of the table.
func newGateway(tb testing.TB, endpoints string, moms ...string) *gateway.Gateway {
	tb.Helper()
	return configured(tb, gateway.Config{}, endpoints, moms...)
}

// configured is newGateway with limits of its own.
func configured(tb testing.TB, cfg gateway.Config, endpoints string, moms ...string) *gateway.Gateway {
	tb.Helper()
	routes, err := route.ParseTable([]string{faultService + "=" + endpoints})
	if err != nil {
		tb.Fatal(err)
	}
	cfg.Routes = routes
	if cfg.Schemas == nil {
		cfg.Schemas = faultSchemas(tb)
	}
	cfg.Logger = slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, addr := range moms {
		cfg.MOM = append(cfg.MOM, &url.URL{Scheme: "http", Host: addr})
	}
	g, err := gateway.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	servertest.Keep(tb, g)
	return g
}

// frontMOM runs a gateway before endpoints, with MOMs behind it.
func frontMOM(tb testing.TB, endpoints string, moms ...string) (url string) {
	tb.Helper()
	return "http://" + serve(tb, newGateway(tb, endpoints, moms...))
}
