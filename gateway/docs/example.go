package docs

import "google.golang.org/protobuf/reflect/protoreflect"

// maxWithin is how deep messages are nested in an example, the outermost counted. A message may
// contain itself, so there must be an end.
const maxWithin = 3

// example is a request to start from: every field once, most with the value that
// they have when they are left out. Floating-point numbers, which are there to be
// calculated with, count up. It lies within so many others.
func example(md protoreflect.MessageDescriptor, within int) object {
	values, number := object{}, 0
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if oneof := fd.ContainingOneof(); oneof != nil && oneof.Fields().Get(0) != fd {
			continue
		}
		if kind := fd.Kind(); kind == protoreflect.DoubleKind || kind == protoreflect.FloatKind {
			number++
		}
		if value := exampleValue(fd, number, within); value != nil {
			values = append(values, field{fd.JSONName(), value})
		}
	}
	return values
}

func exampleValue(fd protoreflect.FieldDescriptor, number, within int) any {
	switch {
	case fd.IsMap():
		return object{}
	case fd.IsList():
		return []any{}
	}
	switch fd.Kind() {
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return number
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
	return 0
}
