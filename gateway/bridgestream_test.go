package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	stock "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"holdline/gateway"
	"holdline/internal/route"
	"holdline/internal/server/servertest"
)

// streamService has a method for each kind of stream: Count, Total and Echo.
const streamService = "test.v1.StreamService"

// frontStreams runs a gateway before a service with streams.
func frontStreams(tb testing.TB, endpoint string) (url string) {
	tb.Helper()
	rpc := func(name string, fromCaller, fromService bool) *descriptorpb.MethodDescriptorProto {
		const number = ".google.protobuf.Int64Value"
		return &descriptorpb.MethodDescriptorProto{
			Name: proto.String(name), InputType: proto.String(number), OutputType: proto.String(number),
			ClientStreaming: proto.Bool(fromCaller), ServerStreaming: proto.Bool(fromService),
		}
	}
	wrappers := protodesc.ToFileDescriptorProto(wrapperspb.File_google_protobuf_wrappers_proto)
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{wrappers, {
		Name: proto.String("test/v1/stream.proto"), Package: proto.String("test.v1"), Syntax: proto.String("proto3"), Dependency: []string{wrappers.GetName()},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("StreamService"), Method: []*descriptorpb.MethodDescriptorProto{
			rpc("Count", false, true), rpc("Total", true, false), rpc("Echo", true, true),
		}}},
	}}})
	if err != nil {
		tb.Fatal(err)
	}
	schemas, err := route.OpenSnapshot(raw)
	if err != nil {
		tb.Fatal(err)
	}
	routes, err := route.ParseTable([]string{streamService + "=" + endpoint})
	if err != nil {
		tb.Fatal(err)
	}
	g, err := gateway.New(gateway.Config{Routes: routes, Schemas: schemas, Logger: slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		tb.Fatal(err)
	}
	servertest.Keep(tb, g)
	return "http://" + serve(tb, g)
}

// numbers is a stream of a server, whoever made that.
type numbers interface {
	receive() (int64, error)
	send(n int64) error
	say(header, trailer map[string]string) error
	fail(code codes.Code, message string) error
}

// numerals are the methods of the service.
var numerals = map[string]func(numbers) error{
	"Count": func(s numbers) error {
		n, err := s.receive()
		if err != nil {
			return err
		}
		if err := s.say(map[string]string{"color": "red", "seal-bin": "AP8"}, map[string]string{"weight": "none"}); err != nil {
			return err
		}
		for i := range max(n, -n) {
			if err := s.send(i + 1); err != nil {
				return err
			}
		}
		if n < 0 {
			return s.fail(codes.NotFound, "no more")
		}
		return nil
	},
	"Total": func(s numbers) error {
		for total := int64(0); ; {
			n, err := s.receive()
			switch {
			case errors.Is(err, io.EOF):
				return s.send(total)
			case err != nil:
				return err
			}
			total += n
		}
	},
	"Echo": func(s numbers) error {
		if err := s.send(0); err != nil { // before it hears anything
			return err
		}
		for {
			n, err := s.receive()
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			case n < 0: // without waiting for the rest
				return s.fail(codes.ResourceExhausted, "enough")
			}
			if err := s.send(n); err != nil {
				return err
			}
		}
	},
}

// onGRPC is a stream of grpc-go.
type onGRPC struct{ stock.ServerStream }

func (s onGRPC) receive() (int64, error) {
	n := new(wrapperspb.Int64Value)
	err := s.RecvMsg(n)
	return n.GetValue(), err
}
func (s onGRPC) send(n int64) error { return s.SendMsg(wrapperspb.Int64(n)) }
func (s onGRPC) say(header, trailer map[string]string) error {
	header["seal-bin"] = "\x00\xff"
	s.SetTrailer(metadata.New(trailer))
	return s.SendHeader(metadata.New(header))
}
func (s onGRPC) fail(code codes.Code, message string) error { return status.Error(code, message) }

// onConnect is a stream of connect.
type onConnect struct {
	connect.ServerStream
	info *connect.CallInfo
}

func (s onConnect) receive() (int64, error) {
	n := new(wrapperspb.Int64Value)
	err := s.Receive(n)
	return n.GetValue(), err
}
func (s onConnect) send(n int64) error { return s.Send(wrapperspb.Int64(n)) }
func (s onConnect) say(header, trailer map[string]string) error {
	for key, value := range header {
		s.info.ResponseHeader().Set(key, value)
	}
	for key, value := range trailer {
		s.info.ResponseTrailer().Set(key, value)
	}
	return s.SendHeaders()
}
func (s onConnect) fail(code codes.Code, message string) error {
	return connect.NewError(connect.Code(code), message)
}

var kinds = map[string]connect.StreamType{"Count": connect.StreamTypeServer, "Total": connect.StreamTypeClient, "Echo": connect.StreamTypeBidi}

// streamsOfGRPC runs the service on a stock server of gRPC.
func streamsOfGRPC(tb testing.TB) (url string) {
	tb.Helper()
	desc := &stock.ServiceDesc{ServiceName: streamService}
	for name, method := range numerals {
		desc.Streams = append(desc.Streams, stock.StreamDesc{
			StreamName: name, ServerStreams: kinds[name]&connect.StreamTypeServer != 0, ClientStreams: kinds[name]&connect.StreamTypeClient != 0,
			Handler: func(_ any, stream stock.ServerStream) error { return method(onGRPC{stream}) },
		})
	}
	return "http://" + servertest.GRPC(tb, "127.0.0.1:0", desc, nil)
}

// streamsIn runs the service on a server that only takes Content-Types of one beginning.
func streamsIn(tb testing.TB, prefix string) (url string) {
	tb.Helper()
	rpc, mux := connect.NewServer(), http.NewServeMux()
	for name, method := range numerals {
		rpc.Register(connect.Method{Spec: streamSpec(name), Handler: func(ctx context.Context, _ connect.Spec, stream connect.ServerStream) error {
			info, _ := connect.CallInfoForServerContext(ctx)
			return method(onConnect{stream, info})
		}})
	}
	connecthttp.Mount(mux, rpc)
	return "http://" + serve(tb, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Content-Type"), prefix) {
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		mux.ServeHTTP(w, r)
	}))
}

func streamSpec(name string) connect.Spec {
	return connect.Spec{Procedure: "/" + streamService + "/" + name, StreamType: kinds[name]}
}

// streamer is a client of connect.
type streamer struct {
	name   string
	major  int
	client *connect.Client
}

func streamers(tb testing.TB, url string) (all []streamer) {
	tb.Helper()
	for name, options := range map[string][]connecthttp.Option{
		"connect": nil, "connect-json": {connecthttp.WithProtoJSON()}, "grpc": {connecthttp.WithGRPC()}, "grpc-json": {connecthttp.WithGRPC(), connecthttp.WithProtoJSON()},
		"grpcweb": {connecthttp.WithGRPCWeb()}, "grpcweb-json": {connecthttp.WithGRPCWeb(), connecthttp.WithProtoJSON()},
	} {
		for _, major := range []int{1, 2} {
			if major == 2 || !strings.HasPrefix(name, "grpc-") && name != "grpc" {
				all = append(all, streamer{fmt.Sprintf("%s over HTTP/%d", name, major), major, connect.NewClient(connecthttp.NewTransport(client(tb, major), url, options...))})
			}
		}
	}
	return all
}

// stream sends numbers in one of the methods, and returns what comes. In a conversation it waits for each answer
// before it says more.
func (s streamer) stream(ctx context.Context, method string, send ...int64) (got []int64, info *connect.CallInfo, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ctx, info = connect.NewClientContext(ctx)
	var stream connect.ClientStream
	if kinds[method] == connect.StreamTypeServer {
		stream, err = s.client.CallServerStream(ctx, streamSpec(method), wrapperspb.Int64(send[0]))
		send = nil
	} else {
		stream, err = s.client.CallClientStream(ctx, streamSpec(method))
	}
	if err != nil {
		return nil, info, err
	}
	defer func() { _ = stream.Close() }()
	receive := func() error {
		n := new(wrapperspb.Int64Value)
		err := stream.Receive(n)
		if err == nil {
			got = append(got, n.GetValue())
		}
		return err
	}
	if method == "Echo" {
		if err := errors.Join(stream.SendHeaders(), receive()); err != nil {
			return got, info, err
		}
	}
	for _, n := range send {
		err := stream.Send(wrapperspb.Int64(n))
		if err == nil && method == "Echo" {
			err = receive()
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return got, info, err
		}
	}
	if kinds[method] != connect.StreamTypeServer {
		_ = stream.CloseSend()
	}
	for err = receive(); err == nil; err = receive() {
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return got, info, err
}

// Streams of all kinds reach a service that speaks one protocol, from callers of each, with what goes beside them.
func TestStreamsAcross(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(testing.TB) string{
		"grpc-go":  streamsOfGRPC,
		"connect":  func(tb testing.TB) string { return streamsIn(tb, "application/connect+proto") },
		"json":     func(tb testing.TB) string { return streamsIn(tb, "application/connect+json") },
		"grpcweb":  func(tb testing.TB) string { return streamsIn(tb, "application/grpc-web") },
		"HTTP/1.1": func(tb testing.TB) string { return streamsIn(tb, "application/connect+proto") + ";http=1" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, s := range streamers(t, frontStreams(t, run(t))) {
				got, info, err := s.stream(t.Context(), "Count", 3)
				if err != nil || !slices.Equal(got, []int64{1, 2, 3}) || info.ResponseHeader().Get("Color") != "red" ||
					info.ResponseHeader().Get("Seal-Bin") != "AP8" || info.ResponseTrailer().Get("Weight") != "none" {
					t.Errorf("%s: Count gave %v, %v, with %v and %v", s.name, got, err, info.ResponseHeader(), info.ResponseTrailer())
				}
				got, info, err = s.stream(t.Context(), "Count", -2)
				var rpcErr *connect.Error
				if !errors.As(err, &rpcErr) || rpcErr.Code() != connect.CodeNotFound || rpcErr.Message() != "no more" || len(got) != 2 || info.ResponseTrailer().Get("Weight") != "none" {
					t.Errorf("%s: Count gave %v, %v, with %v, want not_found after two", s.name, got, err, info.ResponseTrailer())
				}
				if got, _, err = s.stream(t.Context(), "Total", 1, 2, 3); err != nil || !slices.Equal(got, []int64{6}) {
					t.Errorf("%s: Total gave %v, %v", s.name, got, err)
				}
				if s.major == 1 || name == "HTTP/1.1" {
					continue // it has no place for both ways at once
				}
				if got, _, err = s.stream(t.Context(), "Echo", 1, 2, 3); err != nil || !slices.Equal(got, []int64{0, 1, 2, 3}) {
					t.Errorf("%s: Echo gave %v, %v", s.name, got, err)
				}
				if got, _, err = s.stream(t.Context(), "Echo", 1, -1, 3); connect.CodeOf(err) != connect.CodeResourceExhausted || !slices.Equal(got, []int64{0, 1}) {
					t.Errorf("%s: Echo gave %v, %v, want resource_exhausted after two", s.name, got, err)
				}
			}
		})
	}
}

// A stream ends for both sides when its caller leaves, and when it sends what is no message: the caller hears
// why.
func TestStreamsAcrossEnd(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	desc := &stock.ServiceDesc{ServiceName: streamService}
	for _, name := range []string{"Echo", "Total"} {
		desc.Streams = append(desc.Streams, stock.StreamDesc{StreamName: name, ServerStreams: name == "Echo", ClientStreams: true,
			Handler: func(_ any, stream stock.ServerStream) error {
				err := numerals[name](onGRPC{stream})
				ended <- err
				return err
			}})
	}
	url := frontStreams(t, "http://"+servertest.GRPC(t, "127.0.0.1:0", desc, nil))
	ctx, leave := context.WithCancel(t.Context())
	client2 := client(t, 2)
	body, caller := io.Pipe()
	res, err := client2.Do(request(t, url+streamSpec("Echo").Procedure, body, "Content-Type: application/connect+json").WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	leave()
	_ = res.Body.Close()
	if err := <-ended; err == nil {
		t.Error("the service was told that its caller has sent all, want that it left")
	}
	_ = caller.Close()

	for _, method := range []string{"Echo", "Total", "Echo", "Total", "Echo", "Total"} { // none of which speaks against the service
		body, caller := io.Pipe()
		say := func(messages ...string) {
			for _, message := range messages {
				_, _ = io.WriteString(caller, envelope(0, message))
			}
		}
		if method == "Total" { // before there is a head
			go say(`"1"`, `{"no": "number"}`)
		}
		res, err := client2.Do(request(t, url+streamSpec(method).Procedure, body, "Content-Type: application/connect+json", "Holdline-Explain: 1"))
		if err != nil {
			t.Fatal(err)
		}
		if method == "Echo" {
			go say(`"1"`, `{"no": "number"}`)
		}
		said, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		_ = caller.Close()
		if !strings.Contains(string(said), `"invalid_argument"`) || !strings.Contains(string(said), "it is no google.protobuf.Int64Value") || err != nil {
			t.Errorf("%s: caller read %q, %v, want invalid_argument", method, said, err)
		}
		if decided := res.Header.Get("Holdline-Decision"); strings.Contains(decided, "breaker") {
			t.Errorf("%s: %s", method, decided)
		}
		if err := <-ended; err == nil {
			t.Errorf("%s: the service was told that its caller has sent all, want that the stream is over", method)
		}
	}
}

// A service hears that its caller has left who has stopped reading before.
func TestStreamsAcrossLeave(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	service := servertest.GRPC(t, "127.0.0.1:0", &stock.ServiceDesc{ServiceName: streamService, Streams: []stock.StreamDesc{{
		StreamName: "Echo", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, stream stock.ServerStream) error {
			s := onGRPC{stream}
			_, err := s.receive()
			for err == nil {
				err = s.send(1 << 60)
			}
			ended <- err
			return err
		},
	}}}, nil)
	url := frontStreams(t, "http://"+service)
	for _, p := range []string{"application/connect+json", "application/grpc-web+json"} {
		ctx, leave := context.WithCancel(t.Context())
		body, caller := io.Pipe()
		go func() {
			for range 3 {
				_, _ = io.WriteString(caller, envelope(0, `"1"`))
			}
		}()
		res, err := client(t, 2).Do(request(t, url+streamSpec("Echo").Procedure, body, "Content-Type: "+p).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadFull(res.Body, make([]byte, 100))
		time.Sleep(200 * time.Millisecond) // all windows are full
		leave()
		_ = res.Body.Close()
		_ = caller.Close()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the service was not told", p)
		}
	}
}

// An answer that breaks off at the service breaks off at the caller, who cannot take it for whole.
func TestStreamsAcrossBreak(t *testing.T) {
	t.Parallel()
	service := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") != "application/grpc" {
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		_, _ = io.WriteString(w, envelope(0, "\x08\x01")+"\x00\x00")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	for i := range streamers(t, "http://"+service) {
		s := streamers(t, frontStreams(t, "http://"+service))[i] // of its own: breakers open after a few
		got, _, err := s.stream(t.Context(), "Count", 3)
		var said *connect.Error
		if err == nil || len(got) > 1 || errors.As(err, &said) && (said.IsRemote() || said.Code() == connect.CodeUnavailable) {
			t.Errorf("%s: Count gave %v, %v, want one, and that it breaks off", s.name, got, err)
		}
	}
}

// A server of gRPC that looks at no media type never gets a stream of another protocol.
func TestStreamsAcrossToCareless(t *testing.T) {
	t.Parallel()
	service := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == streamSpec("Count").Procedure && r.Header.Get("Content-Type") != "application/grpc" {
			t.Errorf("it got a stream of %s", r.Header.Get("Content-Type"))
		}
		w.Header().Set("Content-Type", "application/grpc")
		_, _ = io.WriteString(w, envelope(0, "\x08\x01"))
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}))
	for _, s := range streamers(t, frontStreams(t, "http://"+service)) {
		if got, _, err := s.stream(t.Context(), "Count", 3); err != nil || !slices.Equal(got, []int64{1}) {
			t.Errorf("%s: Count gave %v, %v", s.name, got, err)
		}
	}
}
