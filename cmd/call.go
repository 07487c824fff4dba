package cmd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpcreflect/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/client"
)

// Call is `holdline call`.
type Call struct {
	Method   string        `arg:"" help:"The method, such as arithmetic.v1.SumService/Sum."`
	Data     string        `short:"d" default:"{}" placeholder:"JSON" help:"The request message; @FILE reads it from a file, @- from standard input."`
	Wait     time.Duration `placeholder:"DURATION" help:"How long to be held when the service is down, in whole seconds. Default 10s." xor:"hold"`
	Async    bool          `xor:"hold" help:"Store the call at once and print its task."`
	Key      string        `placeholder:"KEY" help:"Idempotency-Key: the call is a task, and the same key finds it again."`
	Protocol string        `default:"connect" enum:"connect,grpc,grpcweb" help:"connect, grpc or grpcweb."`
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
	calling, info := connect.NewClientContext(ctx)
	c.ask(info.RequestHeader())
	err = c.connect(c.protocol()...).CallUnary(calling, spec, req, res)
	handle := client.TaskFrom(err)
	switch {
	case err == nil:
		return printJSON(out, res)
	case handle == nil:
		return c.fail(err)
	case c.Async:
		_, err := fmt.Fprintln(out, handle.GetId())
		return err
	case c.Key != "":
		return c.await(ctx, out, handle.GetId(), cmp.Or(c.Wait, defaultWait))
	}
	_ = c.fail(err)
	_, _ = fmt.Fprintf(os.Stderr, "the task goes on: holdline task wait %s\n", handle.GetId())
	return rpcExit(connect.CodeDeadlineExceeded)
}

// defaultWait is what the gateway's own default is.
const defaultWait = 10 * time.Second

// ask writes the headers. A keyed call is stored without a hold and then waited
// for, so that its id is known should the wait be interrupted.
func (c *Call) ask(header *connect.Header) {
	if c.Key != "" {
		header.Set("Idempotency-Key", c.Key)
	}
	switch {
	case c.Async || c.Key != "":
		header.Set("Prefer", "respond-async")
	case c.Wait > 0:
		header.Set("Prefer", fmt.Sprintf("wait=%d", int(math.Ceil(c.Wait.Seconds()))))
	}
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
