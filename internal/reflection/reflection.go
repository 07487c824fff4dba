// Package reflection learns schemas from the services themselves: by grpc.reflection.v1, or by v1alpha if a
// server does not know v1.
package reflection

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpcreflect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	_ "google.golang.org/protobuf/types/known/anypb" // all that is in wellKnown
	_ "google.golang.org/protobuf/types/known/apipb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"
	_ "google.golang.org/protobuf/types/known/sourcecontextpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/typepb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"

	"holdline/internal/route"
)

// Limits of a service's answer about its schema.
const (
	maxFiles = 1000
	maxBytes = 8 << 20 // of all files
)

// wellKnown is the package of the types that libraries know by their names.
const wellKnown protoreflect.FullName = "google.protobuf"

// ErrNone is the error of a service that does not offer its schema.
var ErrNone = errors.New("the service does not tell its schema: it has no server reflection, or does not know the name of the service")

// Fetch asks a server for the schema of a service. Only the file of the service and those that it imports
// count, so that a server can describe nothing else. ErrNone when the server answers and has none.
func Fetch(ctx context.Context, client connecthttp.HTTPClient, baseURL, service string) (*route.Schemas, error) {
	ask := grpcreflect.NewClient(connect.NewClient(connecthttp.NewTransport(client, baseURL, connecthttp.WithGRPC(), connecthttp.WithReadMaxBytes(maxBytes))))
	stream := ask.NewStream(ctx)
	defer func() { _ = stream.Close() }()
	f := &files{stream: stream, known: map[string]*descriptorpb.FileDescriptorProto{}}
	came, err := stream.FileContainingSymbol(protoreflect.FullName(service))
	if err != nil {
		return nil, reason(err)
	}
	if err := f.take(came); err != nil {
		return nil, err
	}
	var set descriptorpb.FileDescriptorSet
	for _, file := range came {
		if defines(file, service) {
			if err := f.collect(&set, file.GetName(), map[string]bool{}); err != nil {
				return nil, err
			}
			raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(&set)
			if err != nil {
				return nil, fmt.Errorf("the schema of %s: %w", service, err)
			}
			return route.OpenSnapshot(raw)
		}
	}
	return nil, ErrNone
}

// reason distinguishes a server that has no schema from a server that cannot be asked.
func reason(err error) error {
	switch connect.CodeOf(err) {
	case connect.CodeUnimplemented, connect.CodeNotFound, connect.CodePermissionDenied, connect.CodeUnauthenticated:
		return errors.Join(ErrNone, err)
	}
	return err
}

// defines tells whether a file has a service.
func defines(file *descriptorpb.FileDescriptorProto, service string) bool {
	for _, s := range file.GetService() {
		if name := protoreflect.FullName(file.GetPackage()).Append(protoreflect.Name(s.GetName())); string(name) == service {
			return true
		}
	}
	return false
}

// files has the files that a server has sent.
type files struct {
	stream *grpcreflect.ClientStream
	known  map[string]*descriptorpb.FileDescriptorProto
	bytes  int
}

func (f *files) take(came []*descriptorpb.FileDescriptorProto) error {
	for _, file := range came {
		if f.known[file.GetName()] != nil {
			continue
		}
		f.known[file.GetName()] = file
		if f.bytes += proto.Size(file); len(f.known) > maxFiles || f.bytes > maxBytes {
			return fmt.Errorf("the schema is larger than %d files and %d bytes: give it as an image, with --schema", maxFiles, maxBytes)
		}
	}
	return nil
}

// collect adds a file to a set, after the files that it imports. A file that the server does not send, such as
// google/protobuf/timestamp.proto, may be linked.
func (f *files) collect(set *descriptorpb.FileDescriptorSet, name string, seen map[string]bool) error {
	if seen[name] {
		return nil
	}
	seen[name] = true
	file, err := f.file(name)
	if err != nil {
		return err
	}
	for _, dependency := range file.GetDependency() {
		if err := f.collect(set, dependency, seen); err != nil {
			return err
		}
	}
	set.File = append(set.File, file)
	return nil
}

func (f *files) file(name string) (*descriptorpb.FileDescriptorProto, error) {
	if linked, missing := protoregistry.GlobalFiles.FindFileByPath(name); missing == nil && linked.Package() == wellKnown {
		return protodesc.ToFileDescriptorProto(linked), nil // even if the server has sent another file of this name
	}
	if f.known[name] == nil {
		came, err := f.stream.FileByFilename(name)
		if err == nil {
			err = f.take(came)
		}
		if linked, missing := protoregistry.GlobalFiles.FindFileByPath(name); f.known[name] == nil && missing == nil {
			f.known[name], err = protodesc.ToFileDescriptorProto(linked), nil
		}
		if err != nil {
			return nil, fmt.Errorf("the file %s of the schema: %w", name, err)
		}
	}
	switch {
	case f.known[name] == nil:
		return nil, fmt.Errorf("the file %s of the schema: the server does not give it", name)
	case f.known[name].GetPackage() == string(wellKnown):
		return nil, fmt.Errorf("the file %s of the schema: it says what is in %s, which is known", name, wellKnown)
	}
	return f.known[name], nil
}
