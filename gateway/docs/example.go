package docs

import "google.golang.org/protobuf/reflect/protoreflect"

// maxWithin is how deep messages lie within messages in an example, the outermost
// counted: they may hold themselves, and the more, the more often others.
const maxWithin = 3

// example is a request to start from: every field once, as empty as it can be, but
// for numbers, which count up. It lies within so many others.
func example(md protoreflect.MessageDescriptor, within int) object {
	values, number := object{}, 0
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if oneof := fd.ContainingOneof(); oneof != nil && oneof.Fields().Get(0) != fd {
			continue
		}
		if isNumber(fd.Kind()) {
			number++
		}
		if value := exampleValue(fd, number, within); value != nil {
			values = append(values, field{fd.JSONName(), value})
		}
	}
	return values
}

func exampleValue(fd protoreflect.FieldDescriptor, number, within int) any {
	switch kind := fd.Kind(); {
	case fd.IsMap():
		return object{}
	case fd.IsList():
		return []any{}
	case isNumber(kind):
		return number
	case kind == protoreflect.BoolKind:
		return false
	case kind == protoreflect.EnumKind && fd.Enum().FullName() == nullValue:
		return nil
	case kind == protoreflect.EnumKind:
		return string(fd.Enum().Values().Get(0).Name())
	case kind == protoreflect.MessageKind || kind == protoreflect.GroupKind:
		if known, ok := wellKnown[fd.Message().FullName()]; ok {
			return known.example
		}
		if within+1 == maxWithin {
			return nil
		}
		return example(fd.Message(), within+1)
	}
	return ""
}

func isNumber(kind protoreflect.Kind) bool {
	switch kind {
	case protoreflect.BoolKind, protoreflect.EnumKind, protoreflect.StringKind, protoreflect.BytesKind,
		protoreflect.MessageKind, protoreflect.GroupKind:
		return false
	}
	return true
}
