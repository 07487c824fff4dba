package cmd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpcreflect/v2"
	"golang.org/x/net/http/httpguts"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/client"
	"holdline/internal/contract"
)

// Call is `holdline call`. What belongs to one call has no twin in the environment:
// a forgotten variable must not change what a call means.
type Call struct {
	Method   string         `arg:"" help:"The method to call, such as arithmetic.v1.SumService/Sum."`
	Data     string         `short:"d" env:"-" default:"{}" placeholder:"JSON" help:"The request message. @FILE reads it from a file, @- from standard input."`
	Headers  []string       `name:"header" short:"H" env:"-" sep:"none" placeholder:"'NAME: VALUE'" help:"A header of the request. May be repeated."`
	Wait     *time.Duration `env:"-" xor:"hold" placeholder:"DURATION" help:"How long the gateway holds the call when the service is down, rounded up to whole seconds. 0 for not at all. Default: ${default_hold}."`
	Async    bool           `env:"-" xor:"hold" help:"Store the call at once and print the id of its task."`
	Key      *string        `env:"-" placeholder:"KEY" help:"The Idempotency-Key. The call becomes a task, and the same call with the same key finds that task again."`
	TTL      *time.Duration `env:"-" placeholder:"DURATION" help:"How long a stored call may wait for its service. Default: what the route says, or ${default_ttl}."`
	Explain  bool           `env:"-" help:"Print on standard error what the gateway did."`
	Protocol string         `env:"-" default:"connect" enum:"connect,grpc,grpcweb" help:"The protocol to speak: connect, grpc or grpcweb."`
	Remote
}

// AfterApply refuses what would make another call than the one that was meant.
func (c *Call) AfterApply() error {
	switch {
	case !strings.Contains(strings.TrimPrefix(c.Method, "/"), "/"):
		return fmt.Errorf("method %q: want package.Service/Method", c.Method)
	case c.Key != nil && strings.TrimSpace(*c.Key) == "":
		return errors.New("--key: the key is empty, so the call would be sent without one; want 1 to 255 visible ASCII characters")
	case c.TTL != nil && *c.TTL == 0:
		return errors.New("--ttl: 0 leaves a stored call no time; want a duration such as 60s or 1h")
	}
	return nil
}

// Run calls the method, whose schema the gateway tells by reflection.
func (c *Call) Run(ctx context.Context, out io.Writer) error {
	calling, info := connect.NewClientContext(ctx)
	if err := c.ask(info.RequestHeader()); err != nil {
		return err
	}
	data, err := c.read()
	if err != nil {
		return err
	}
	md, err := c.describe(ctx)
	if err != nil {
		return err
	}
	req, res := dynamicpb.NewMessage(md.Input()), dynamicpb.NewMessage(md.Output())
	if err := protojson.Unmarshal(data, req); err != nil {
		return usagef("-d is not a valid %s: %v", md.Input().FullName(), err)
	}
	spec := connect.Spec{
		Procedure: fmt.Sprintf("/%s/%s", md.Parent().FullName(), md.Name()),
		Schema:    md,
	}
	err = c.connect(c.protocol()...).CallUnary(calling, spec, req, res)
	if decision := info.ResponseHeader().Get(contract.HeaderDecision); decision != "" {
		c.tell(decision)
	}
	handle := client.TaskFrom(err)
	switch {
	case err == nil:
		return c.unwritten(printJSON(out, res), info.ResponseHeader().Get(contract.HeaderTask))
	case handle == nil && interrupted(err):
		return c.interruption()
	case handle == nil:
		return c.unknown(c.fail(err))
	case c.Async && c.JSON:
		return c.unwritten(printJSON(out, handle), handle.GetId())
	case c.Async:
		_, err := fmt.Fprintln(out, handle.GetId())
		return c.unwritten(err, handle.GetId())
	case c.Key != nil:
		return c.await(ctx, out, handle.GetId(), cmp.Or(c.Wait, &defaultWait))
	}
	return c.goesOn(handle)
}

// defaultWait is how long the gateway holds a call that does not say it.
var defaultWait = contract.DefaultHold

// ask writes the headers. A call with a key is stored without a hold, and then waited for: so
// its id is known if the wait is interrupted.
func (c *Call) ask(header *connect.Header) error {
	for _, line := range c.Headers {
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return usagef("-H %q is not a header; want 'NAME: VALUE'", line)
		}
		header.Add(name, value)
	}
	if c.Key != nil {
		header.Set(contract.HeaderKey, *c.Key)
	}
	if c.TTL != nil {
		header.Set(contract.HeaderTTL, c.TTL.String())
	}
	if c.Explain {
		header.Set(contract.HeaderExplain, "1")
	}
	switch {
	case c.Async || c.Key != nil:
		header.Set(contract.HeaderPrefer, "respond-async")
	case c.Wait != nil:
		header.Set(contract.HeaderPrefer, fmt.Sprintf("wait=%d", int(math.Ceil(c.Wait.Seconds()))))
	}
	return nil
}

// tell prints what the gateway did.
func (c *Call) tell(decision string) {
	if c.JSON {
		_ = json.NewEncoder(os.Stderr).Encode(map[string]string{"decision": decision})
		return
	}
	_, _ = fmt.Fprintln(os.Stderr, "decision:", decision)
}

// interruption says what becomes of the call when this command is ended before
// there is an answer or a handle.
func (c *Call) interruption() error {
	switch {
	case c.Key != nil:
		return interruption("interrupted; if the call is stored it goes on, and the same --key finds it")
	case c.Async:
		return interruption("interrupted; if the call is stored it goes on")
	}
	return interruption("interrupted; the call is cancelled, unless its service has it already")
}

// unknown adds a hint to the error of a call whose connection broke. The gateway was there a
// moment before, since it told the schema, so the call may have been executed.
func (c *Call) unknown(err error) error {
	var failed *callError
	if errors.As(err, &failed) && !failed.rpc.IsRemote() && failed.rpc.Unwrap() != nil && !notDialled(err) {
		failed.hint = "The connection broke: whether the call was executed is not known. A call with --key may be sent again."
		// With --json there is no hint, and unavailable alone would say that the call was not executed.
		failed.rpc = connect.NewError(failed.rpc.Code(), failed.rpc.Message()+"; whether the call was executed is not known").WithCause(failed.rpc)
	}
	return err
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
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, usagef("-d: %w", err)
	}
	return data, nil
}

// describe asks the gateway for the method's schema.
func (c *Call) describe(ctx context.Context) (protoreflect.MethodDescriptor, error) {
	service, method, _ := strings.Cut(strings.TrimPrefix(c.Method, "/"), "/")
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
		return nil, fmt.Errorf("%s is a streaming method; holdline call can only call unary methods, and buf curl can call both", c.Method)
	}
	return md, nil
}
