package openapi

import "google.golang.org/protobuf/reflect/protoreflect"

// maxWithin is how deep messages are nested in an example, the outermost counted. A message may
// contain itself, so there must be an end.
const maxWithin = 3

// example is a request to start from. It has every field once; of a oneof the first. A number is the number of its
// field, so that there is something to calculate with; all else is what it is when it is left out.
// The message lies within so many others.
func example(md protoreflect.MessageDescriptor, within int) object {
	values := object{}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if oneof := fd.ContainingOneof(); oneof != nil && oneof.Fields().Get(0) != fd {
			continue
		}
		if value := exampleValue(fd, within); value != nil {
			values = append(values, field{fd.JSONName(), value})
		}
	}
	return values
}

func exampleValue(fd protoreflect.FieldDescriptor, within int) any {
	switch {
	case fd.IsMap():
		return object{}
	case fd.IsList():
		return []any{}
	}
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return false
	case protoreflect.StringKind, protoreflect.BytesKind:
		return ""
	case protoreflect.EnumKind:
		if fd.Enum().FullName() == nullValue {
			return nil
		}
		return string(fd.Enum().Values().Get(0).Name())
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if known, ok := wellKnown[fd.Message().FullName()]; ok {
			return known.example
		}
		if within+1 == maxWithin {
			return nil
		}
		return example(fd.Message(), within+1)
	}
	return int(fd.Number())
}
