package reflection_test

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	stock "google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	_ "google.golang.org/protobuf/types/known/emptypb" // a service may import it

	"holdline/internal/reflection"
	"holdline/internal/route"
	"holdline/internal/server/servertest"
	"holdline/internal/upstream"
	"holdline/internal/wire"
)

// over is a server of grpc-go, and a client that speaks HTTP/2 to it.
func over(tb testing.TB, register func(*grpc.Server)) (client *http.Client, url string) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := grpc.NewServer()
	healthv1.RegisterHealthServer(s, health.NewServer())
	register(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	tb.Cleanup(func() {
		transport.CloseIdleConnections()
		s.Stop()
		<-done
	})
	return &http.Client{Transport: transport}, "http://" + ln.Addr().String()
}

// A stock server tells the schema of a service, in either version of reflection.
func TestFetch(t *testing.T) {
	t.Parallel()
	for name, register := range map[string]func(*grpc.Server){
		"v1 and v1alpha": func(s *grpc.Server) { stock.Register(s) },
		"v1":             func(s *grpc.Server) { stock.RegisterV1(s) },
	} {
		client, url := over(t, register)
		schemas, err := reflection.Fetch(t.Context(), client, url, healthv1.Health_ServiceDesc.ServiceName)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m := schemas.Method("/grpc.health.v1.Health/Check"); m == nil || !m.Unary {
			t.Errorf("%s: Check is %+v, want a unary method", name, m)
		}
		if m := schemas.Method("/grpc.health.v1.Health/Watch"); m == nil || m.Unary {
			t.Errorf("%s: Watch is %+v, want a stream", name, m)
		}
	}
}

// A server without reflection, or without the service, has no schema; one that is not there may have one.
func TestFetchNone(t *testing.T) {
	t.Parallel()
	client, url := over(t, func(*grpc.Server) {})
	if _, err := reflection.Fetch(t.Context(), client, url, "grpc.health.v1.Health"); !errors.Is(err, reflection.ErrNone) {
		t.Errorf("without reflection: %v, want ErrNone", err)
	}
	client, url = over(t, func(s *grpc.Server) { stock.Register(s) })
	if _, err := reflection.Fetch(t.Context(), client, url, "acme.v1.Nobody"); !errors.Is(err, reflection.ErrNone) {
		t.Errorf("of another service: %v, want ErrNone", err)
	}
	if _, err := reflection.Fetch(t.Context(), client, "http://127.0.0.1:1", "acme.v1.Nobody"); err == nil || errors.Is(err, reflection.ErrNone) {
		t.Errorf("without a server: %v, want another error", err)
	}
}

// Services are asked from when a route leads to them, and no more once it does not.
func TestFollow(t *testing.T) {
	t.Parallel()
	_, url := over(t, func(s *grpc.Server) { stock.Register(s) })
	const service = "grpc.health.v1.Health"
	routes, err := route.ParseTable([]string{service + "=" + url + ";schema=reflect"})
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := routes.Schemas()
	if err != nil {
		t.Fatal(err)
	}
	learned := make(chan struct{}, 2)
	schemas.OnLearn(func() { learned <- struct{}{} })
	l := reflection.Learner{Schemas: schemas, Log: slog.New(slog.DiscardHandler)}
	stop := servertest.Keep(t, &l)
	for range 2 { // the second time, another pool is asked at once
		pool := upstream.NewPool(routes[service].Pool(wire.Own, l.Log))
		t.Cleanup(pool.Close)
		l.Follow(routes, func(string) *upstream.Pool { return pool })
		if <-learned; schemas.Service(service) == nil {
			t.Error("its schema was learned, and is not known")
		}
		l.Follow(nil, nil)
		none, err := route.ParseTable([]string{service + "=" + url + ";schema=none"})
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range []route.Table{none, routes} {
			next, err := table.Schemas()
			if err != nil {
				t.Fatal(err)
			}
			schemas.Replace(next) // the first one has what was learned forgotten
		}
	}
	stop()
}

// A service that is back at one of its endpoints is asked there.
func TestBackAsksEachEndpoint(t *testing.T) {
	t.Parallel()
	_, url := over(t, func(s *grpc.Server) { stock.Register(s) })
	const service = "grpc.health.v1.Health"
	routes, err := route.ParseTable([]string{service + "=http://127.0.0.1:1," + url + ";schema=reflect"})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		schemas, err := routes.Schemas()
		if err != nil {
			t.Fatal(err)
		}
		l := reflection.Learner{Schemas: schemas, Log: slog.New(slog.DiscardHandler)}
		pool := upstream.NewPool(routes[service].Pool(wire.Own, l.Log))
		t.Cleanup(pool.Close)
		l.Follow(routes, func(string) *upstream.Pool { return pool })
		if l.Back(service); schemas.Service(service) == nil {
			t.Fatal("it was not asked where it is")
		}
	}
}

// liar answers each question with the files of one answer.
type liar struct {
	reflectionv1.UnimplementedServerReflectionServer
	files func(question *reflectionv1.ServerReflectionRequest) []*descriptorpb.FileDescriptorProto
}

func (l liar) ServerReflectionInfo(stream grpc.BidiStreamingServer[reflectionv1.ServerReflectionRequest, reflectionv1.ServerReflectionResponse]) error {
	for {
		question, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the caller has ended
		}
		answer := &reflectionv1.FileDescriptorResponse{}
		for _, file := range l.files(question) {
			raw, err := proto.Marshal(file)
			if err != nil {
				return err
			}
			answer.FileDescriptorProto = append(answer.FileDescriptorProto, raw)
		}
		if err := stream.Send(&reflectionv1.ServerReflectionResponse{
			MessageResponse: &reflectionv1.ServerReflectionResponse_FileDescriptorResponse{FileDescriptorResponse: answer},
		}); err != nil {
			return err
		}
	}
}

// A service can neither describe another one, nor keep us asking, nor fill our memory.
func TestFetchFromLiars(t *testing.T) {
	t.Parallel()
	const service = "acme.v1.Users"
	file := func(name string, imports ...string) *descriptorpb.FileDescriptorProto {
		return &descriptorpb.FileDescriptorProto{
			Name: proto.String(name), Package: proto.String("acme.v1"), Syntax: proto.String("proto3"), Dependency: imports,
			Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Users")}},
		}
	}
	for name, files := range map[string]func(*reflectionv1.ServerReflectionRequest) []*descriptorpb.FileDescriptorProto{
		"nothing": func(*reflectionv1.ServerReflectionRequest) []*descriptorpb.FileDescriptorProto { return nil },
		"another service": func(*reflectionv1.ServerReflectionRequest) []*descriptorpb.FileDescriptorProto {
			return []*descriptorpb.FileDescriptorProto{{Name: proto.String("a.proto"), Package: proto.String("acme.v2"), Service: file("").GetService()}}
		},
		"a circle": func(*reflectionv1.ServerReflectionRequest) []*descriptorpb.FileDescriptorProto {
			return []*descriptorpb.FileDescriptorProto{file("a.proto", "b.proto"), {Name: proto.String("b.proto"), Dependency: []string{"a.proto"}}}
		},
		"imports without end": func(question *reflectionv1.ServerReflectionRequest) []*descriptorpb.FileDescriptorProto {
			asked := question.GetFileByFilename()
			if asked == "" {
				return []*descriptorpb.FileDescriptorProto{file("a", "aa")}
			}
			return []*descriptorpb.FileDescriptorProto{{Name: proto.String(asked), Dependency: []string{asked + "a"}}}
		},
		"well-known types": func(*reflectionv1.ServerReflectionRequest) []*descriptorpb.FileDescriptorProto {
			return []*descriptorpb.FileDescriptorProto{file("a.proto", "evil.proto"), {
				Name: proto.String("evil.proto"), Package: proto.String("google.protobuf"), MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Timestamp")}},
			}}
		},
		"what it does not give": func(question *reflectionv1.ServerReflectionRequest) []*descriptorpb.FileDescriptorProto {
			return []*descriptorpb.FileDescriptorProto{file("a.proto", "b.proto")}
		},
		"too much": func(*reflectionv1.ServerReflectionRequest) []*descriptorpb.FileDescriptorProto {
			large := file("a.proto")
			for i := range 70_000 {
				large.MessageType = append(large.MessageType, &descriptorpb.DescriptorProto{Name: proto.String(strings.Repeat("M", 120) + strconv.Itoa(i))})
			}
			return []*descriptorpb.FileDescriptorProto{large}
		},
	} {
		client, url := over(t, func(s *grpc.Server) { reflectionv1.RegisterServerReflectionServer(s, liar{files: files}) })
		if schemas, err := reflection.Fetch(t.Context(), client, url, service); err == nil {
			t.Errorf("%s: got %v, want an error", name, schemas.Service(service))
		}
	}
	client, url := over(t, func(s *grpc.Server) {
		reflectionv1.RegisterServerReflectionServer(s, liar{files: func(*reflectionv1.ServerReflectionRequest) []*descriptorpb.FileDescriptorProto {
			return []*descriptorpb.FileDescriptorProto{file("a.proto", "google/protobuf/empty.proto"), {Name: proto.String("unasked.proto")}}
		}})
	})
	schemas, err := reflection.Fetch(t.Context(), client, url, service)
	if err != nil || schemas.Service(service) == nil {
		t.Fatalf("with an import that is linked: %v", err)
	}
	if _, err := schemas.FindFileByPath("unasked.proto"); err == nil {
		t.Error("a file was taken over that the service does not import")
	}
}
