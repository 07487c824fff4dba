package route

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Snapshot returns the current schema of a service: its file and all imports, without comments. OpenSnapshot
// can read it after the schema has changed. The same schema gives the same bytes. It is empty if no schema
// has the service.
func (s *Schemas) Snapshot(service string) ([]byte, error) {
	sd := s.Service(service) // its imports come with it
	if sd == nil {
		return nil, nil
	}
	var set descriptorpb.FileDescriptorSet
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] || file.IsPlaceholder() {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		raw := protodesc.ToFileDescriptorProto(file)
		raw.SourceCodeInfo = nil
		set.File = append(set.File, raw)
	}
	add(sd.ParentFile())
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(&set)
	if err != nil {
		return nil, fmt.Errorf("snapshot of the schema of %s: %w", service, err)
	}
	return raw, nil
}

// OpenSnapshot reads what Snapshot returned, perhaps in another release. Names that are not in the snapshot
// are looked up in the linked packages.
func OpenSnapshot(raw []byte) (*Schemas, error) {
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("snapshot of a schema: %w", err)
	}
	return newSchemas(&set)
}
