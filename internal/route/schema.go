package route

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Method describes one method of a schema.
type Method struct {
	Descriptor protoreflect.MethodDescriptor
	Procedure  string // /package.Service/Method
	Unary      bool
	// Repeatable methods may run more than once: NO_SIDE_EFFECTS or IDEMPOTENT.
	Repeatable bool
}

// Service is the full name of the method's service.
func (m *Method) Service() string { return string(m.Descriptor.Parent().FullName()) }

// Spec describes the method to connect.
func (m *Method) Spec() connect.Spec {
	spec := connect.Spec{Procedure: m.Procedure, Schema: m.Descriptor}
	if m.Descriptor.IsStreamingClient() {
		spec.StreamType |= connect.StreamTypeClient
	}
	if m.Descriptor.IsStreamingServer() {
		spec.StreamType |= connect.StreamTypeServer
	}
	options, _ := m.Descriptor.Options().(*descriptorpb.MethodOptions)
	spec.IdempotencyLevel = connect.IdempotencyLevel(options.GetIdempotencyLevel())
	return spec
}

// Schemas is every known schema: the given Buf images, then the linked
// packages, and what was learned. It resolves descriptors and types of all, and is safe for concurrent use.
type Schemas struct {
	files   *protoregistry.Files // of the images
	types   *dynamicpb.Types
	shipped *protoregistry.Files // ours, for their comments
	methods map[string]*Method
	hidden  map[string]bool // services whose schemas in images and linked packages do not count
	none    map[string]bool // services that count as without a schema, even if there is one
	// follows has the values of all fields above, and Replace replaces it. If it is nil, the fields above count, and never change.
	follows atomic.Pointer[Schemas]
	learned learned
}

// following returns schemas that equal first until Replace is called.
func following(first *Schemas) *Schemas {
	s := &Schemas{}
	s.follows.Store(first)
	return s
}

// ReadFile reads a file, as os.ReadFile does.
type ReadFile func(name string) ([]byte, error)

// LoadSchemas reads Buf images, or file descriptor sets that include their imports. If several of them have
// the same file, it must be equal in all.
func LoadSchemas(images ...string) (*Schemas, error) {
	s, err := loadSchemas(os.ReadFile, images)
	if err != nil {
		return nil, err
	}
	return following(s), nil
}

func loadSchemas(read ReadFile, images []string) (*Schemas, error) {
	var set descriptorpb.FileDescriptorSet
	seen := map[string]*descriptorpb.FileDescriptorProto{}
	for _, name := range images {
		raw, err := read(name)
		if err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
		var image descriptorpb.FileDescriptorSet
		if err := proto.Unmarshal(raw, &image); err != nil || len(image.GetFile()) == 0 {
			return nil, fmt.Errorf("schema %s is not a Buf image; make one with: buf build -o %s", name, "image.binpb")
		}
		for _, file := range image.GetFile() {
			// Buf marks imports with an extension of its own. Two images may differ in nothing else.
			file.ProtoReflect().SetUnknown(nil)
			keepComments(file)
			if twin := seen[file.GetName()]; twin == nil {
				seen[file.GetName()] = file
				set.File = append(set.File, file)
			} else if !proto.Equal(twin, file) {
				return nil, fmt.Errorf("schema %s: its file %s differs from the one in another image", name, file.GetName())
			}
		}
	}
	return newSchemas(&set)
}

func newSchemas(set *descriptorpb.FileDescriptorSet) (*Schemas, error) {
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, fmt.Errorf("schemas: %w (build the image with its imports)", err)
	}
	shipped, err := shippedFiles()
	if err != nil {
		return nil, err
	}
	s := &Schemas{
		files: files, types: dynamicpb.NewTypes(files), shipped: shipped, methods: map[string]*Method{},
		hidden: map[string]bool{}, none: map[string]bool{},
	}
	files.RangeFiles(s.add)
	protoregistry.GlobalFiles.RangeFiles(s.add)
	return s, nil
}

func (s *Schemas) add(file protoreflect.FileDescriptor) bool {
	services := file.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			md := methods.Get(j)
			procedure := fmt.Sprintf("/%s/%s", services.Get(i).FullName(), md.Name())
			if s.methods[procedure] != nil {
				continue // an image overrides what is linked
			}
			s.methods[procedure] = &Method{
				Descriptor: md,
				Procedure:  procedure,
				Unary:      !md.IsStreamingClient() && !md.IsStreamingServer(),
				Repeatable: Repeatable(md),
			}
		}
	}
	return true
}

// Repeatable tells whether a method may run more than once for one call.
func Repeatable(md protoreflect.MethodDescriptor) bool {
	options, _ := md.Options().(*descriptorpb.MethodOptions)
	return options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
}

// Method returns what is known of a procedure, nil when no schema has it.
func (s *Schemas) Method(procedure string) *Method {
	now := s.now()
	if len(now.hidden) == 0 && s.learned.schemas.Load() == nil {
		return now.methods[procedure]
	}
	service, _, _ := SplitProcedure(procedure)
	of := s.Of(service)
	if of.hidden[service] {
		return nil
	}
	return of.methods[procedure]
}

// Methods returns what is known of the methods of a service, in the order of its schema.
func (s *Schemas) Methods(service string) (methods []*Method) {
	of := s.Of(service) // one value for all lookups: another schema may come meanwhile
	sd := of.given(service)
	for i := 0; sd != nil && i < sd.Methods().Len(); i++ {
		methods = append(methods, of.methods[fmt.Sprintf("/%s/%s", service, sd.Methods().Get(i).Name())])
	}
	return methods
}

// Service returns a service's descriptor, nil when no schema has it.
func (s *Schemas) Service(name string) protoreflect.ServiceDescriptor { return s.Of(name).given(name) }

func (s *Schemas) given(service string) protoreflect.ServiceDescriptor {
	now := s.now()
	if now.hidden[service] {
		return nil
	}
	d, err := now.findDescriptor(protoreflect.FullName(service))
	if err != nil {
		return nil
	}
	sd, _ := d.(protoreflect.ServiceDescriptor)
	return sd
}

func (s *Schemas) findDescriptor(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	return either(name, s.files.FindDescriptorByName, protoregistry.GlobalFiles.FindDescriptorByName)
}

// FindFileByPath implements protodesc.Resolver.
func (s *Schemas) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	return find(s, path, func(s *Schemas, path string) (protoreflect.FileDescriptor, error) {
		return either(path, s.files.FindFileByPath, protoregistry.GlobalFiles.FindFileByPath)
	})
}

// FindDescriptorByName implements protodesc.Resolver.
func (s *Schemas) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	return find(s, name, func(s *Schemas, name protoreflect.FullName) (protoreflect.Descriptor, error) {
		return either(name, s.files.FindDescriptorByName, protoregistry.GlobalFiles.FindDescriptorByName)
	})
}

// FindMessageByName implements protoregistry.MessageTypeResolver.
func (s *Schemas) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	return find(s, name, func(s *Schemas, name protoreflect.FullName) (protoreflect.MessageType, error) {
		return either(name, s.types.FindMessageByName, protoregistry.GlobalTypes.FindMessageByName)
	})
}

// FindMessageByURL implements protoregistry.MessageTypeResolver.
func (s *Schemas) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return find(s, url, func(s *Schemas, url string) (protoreflect.MessageType, error) {
		return either(url, s.types.FindMessageByURL, protoregistry.GlobalTypes.FindMessageByURL)
	})
}

// FindExtensionByName implements protoregistry.ExtensionTypeResolver.
func (s *Schemas) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return find(s, name, func(s *Schemas, name protoreflect.FullName) (protoreflect.ExtensionType, error) {
		return either(name, s.types.FindExtensionByName, protoregistry.GlobalTypes.FindExtensionByName)
	})
}

// FindExtensionByNumber implements protoregistry.ExtensionTypeResolver.
func (s *Schemas) FindExtensionByNumber(message protoreflect.FullName, number protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	extension, err := s.now().types.FindExtensionByNumber(message, number)
	if errors.Is(err, protoregistry.NotFound) {
		return protoregistry.GlobalTypes.FindExtensionByNumber(message, number)
	}
	return extension, err
}

// RangeExtensionsByMessage lists the extensions of a message. Server reflection needs this, and
// dynamicpb.Types cannot do it.
func (s *Schemas) RangeExtensionsByMessage(message protoreflect.FullName, yield func(protoreflect.ExtensionType) bool) {
	more := true
	s.now().files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		extensions := file.Extensions()
		for i := 0; more && i < extensions.Len(); i++ {
			if extensions.Get(i).ContainingMessage().FullName() == message {
				more = yield(dynamicpb.NewExtensionType(extensions.Get(i)))
			}
		}
		return more
	})
	if more {
		protoregistry.GlobalTypes.RangeExtensionsByMessage(message, yield)
	}
}

// either asks the images first, then the linked packages.
func either[K, V any](key K, images, linked func(K) (V, error)) (V, error) {
	v, err := images(key)
	if errors.Is(err, protoregistry.NotFound) {
		return linked(key)
	}
	return v, err
}
