package cmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpcreflect/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Call is `holdline call`.
type Call struct {
	Method   string `arg:"" help:"The method, such as arithmetic.v1.SumService/Sum."`
	Data     string `short:"d" default:"{}" placeholder:"JSON" help:"The request message; @FILE reads it from a file, @- from standard input."`
	Protocol string `default:"connect" enum:"connect,grpc,grpcweb" help:"connect, grpc or grpcweb."`
	Remote
}

// Run calls the method, whose schema the gateway tells by reflection.
func (c *Call) Run(ctx context.Context, out io.Writer) error {
	md, err := c.describe(ctx)
	if err != nil {
		return err
	}
	data, err := c.read()
	if err != nil {
		return err
	}
	req, res := dynamicpb.NewMessage(md.Input()), dynamicpb.NewMessage(md.Output())
	if err := protojson.Unmarshal(data, req); err != nil {
		return fmt.Errorf("-d is no %s: %w", md.Input().FullName(), err)
	}
	spec := connect.Spec{
		Procedure: fmt.Sprintf("/%s/%s", md.Parent().FullName(), md.Name()),
		Schema:    md,
	}
	if err := c.connect(c.protocol()...).CallUnary(ctx, spec, req, res); err != nil {
		return c.fail(err)
	}
	return printJSON(out, res)
}

func (c *Call) protocol() []connecthttp.Option {
	switch c.Protocol {
	case "grpc":
		return []connecthttp.Option{connecthttp.WithGRPC()}
	case "grpcweb":
		return []connecthttp.Option{connecthttp.WithGRPCWeb()}
	}
	return nil
}

func (c *Call) read() ([]byte, error) {
	name, isFile := strings.CutPrefix(c.Data, "@")
	switch {
	case !isFile:
		return []byte(c.Data), nil
	case name == "-":
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(name)
}

// describe asks the gateway for the method's schema.
func (c *Call) describe(ctx context.Context) (protoreflect.MethodDescriptor, error) {
	service, method, ok := strings.Cut(strings.TrimPrefix(c.Method, "/"), "/")
	if !ok {
		return nil, fmt.Errorf("method %q: want package.Service/Method", c.Method)
	}
	stream := grpcreflect.NewClient(c.connect()).NewStream(ctx)
	defer func() { _ = stream.Close() }()
	list, err := stream.FileContainingSymbol(protoreflect.FullName(service))
	if connect.CodeOf(err) == connect.CodeNotFound {
		return nil, fmt.Errorf("%s has no schema of %s; `holdline services` lists what it has", c.Server, service)
	}
	if err != nil {
		return nil, c.fail(err)
	}
	files, err := protodesc.NewFiles(&descriptorpb.FileDescriptorSet{File: list})
	if err != nil {
		return nil, fmt.Errorf("schema of %s: %w", service, err)
	}
	d, err := files.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	md, ok := d.(protoreflect.MethodDescriptor)
	switch {
	case err != nil || !ok:
		return nil, fmt.Errorf("%s has no method %s; `holdline services` lists those it has", service, method)
	case md.IsStreamingClient() || md.IsStreamingServer():
		return nil, fmt.Errorf("%s streams; holdline call is for unary methods, buf curl calls any", c.Method)
	}
	return md, nil
}
