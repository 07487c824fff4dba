package e2e

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// greeterService is the service of docs/your-service.md.
const greeterService = "helloworld.Greeter"

var greeterFile = sync.OnceValue(func() *descriptorpb.FileDescriptorProto {
	var file descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(`
name: "greeter.proto" package: "helloworld" syntax: "proto3"
message_type { name: "HelloRequest"
  field { name: "name" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING json_name: "name" } }
message_type { name: "HelloReply"
  field { name: "message" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING json_name: "message" } }
service { name: "Greeter"
  method { name: "SayHello" input_type: ".helloworld.HelloRequest" output_type: ".helloworld.HelloReply" } }
`), &file); err != nil {
		panic(err)
	}
	return &file
})

var greeterMethod = sync.OnceValue(func() protoreflect.MethodDescriptor {
	file, err := protodesc.NewFile(greeterFile(), nil)
	if err != nil {
		panic(err)
	}
	return file.Services().ByName("Greeter").Methods().ByName("SayHello")
})

// greeter serves the Greeter with grpc-go at an address.
type greeter string

// Run serves until ctx ends.
func (addr greeter) Run(ctx context.Context) error {
	ln, err := net.Listen("tcp", string(addr))
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: greeterService, Methods: []grpc.MethodDesc{{MethodName: "SayHello", Handler: sayHello}},
	}, nil)
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	return s.Serve(ln)
}

func sayHello(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // grpc-go's signature
	req, reply := dynamicpb.NewMessage(greeterMethod().Input()), dynamicpb.NewMessage(greeterMethod().Output())
	if err := decode(req); err != nil {
		return nil, err
	}
	hello := "Hello " + req.Get(req.Descriptor().Fields().ByName("name")).String()
	reply.Set(reply.Descriptor().Fields().ByName("message"), protoreflect.ValueOfString(hello))
	return reply, nil
}
