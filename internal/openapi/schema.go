package openapi

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"holdline/internal/route"
)

// wellKnown are messages with a JSON of their own, by the ProtoJSON format, each
// with an example. A nil example leaves a field out of the examples.
var wellKnown = map[protoreflect.FullName]struct {
	schema  object
	example any
}{
	"google.protobuf.Any": {object{{"type", "object"},
		{"description", "Any message: its JSON, and its type beside it."},
		{"properties", object{{"@type", object{{"type", "string"}}}}}, {"additionalProperties", true}}, nil},
	"google.protobuf.BoolValue":   {object{{"type", []string{"boolean", "null"}}}, false},
	"google.protobuf.BytesValue":  {object{{"type", []string{"string", "null"}}, {"contentEncoding", "base64"}}, ""},
	"google.protobuf.DoubleValue": {object{{"type", []string{"number", "string", "null"}}}, 1},
	"google.protobuf.Duration":    {object{{"type", "string"}, {"pattern", `^-?\d+(\.\d{1,9})?s$`}, {"description", "Seconds, such as 1.5s."}}, "1s"},
	"google.protobuf.FieldMask":   {object{{"type", "string"}, {"description", "Names of fields, by comma."}}, ""},
	"google.protobuf.FloatValue":  {object{{"type", []string{"number", "string", "null"}}}, 1},
	"google.protobuf.Int32Value":  {object{{"type", []string{"integer", "null"}}, {"format", "int32"}}, 0},
	"google.protobuf.Int64Value":  {object{{"type", []string{"string", "integer", "null"}}, {"format", "int64"}}, 0},
	"google.protobuf.ListValue":   {object{{"type", "array"}, {"items", object{}}}, []any{}},
	"google.protobuf.StringValue": {object{{"type", []string{"string", "null"}}}, ""},
	"google.protobuf.Struct":      {object{{"type", "object"}, {"additionalProperties", true}}, object{}},
	"google.protobuf.Timestamp":   {object{{"type", "string"}, {"format", "date-time"}}, "2030-01-01T00:00:00Z"},
	"google.protobuf.UInt32Value": {object{{"type", []string{"integer", "null"}}, {"format", "int64"}}, 0},
	"google.protobuf.UInt64Value": {object{{"type", []string{"string", "integer", "null"}}, {"format", "int64"}}, 0},
	"google.protobuf.Value":       {object{{"description", "Any JSON."}}, nil},
}

// nullValue is the one enum with a JSON of its own.
const nullValue = "google.protobuf.NullValue"

// schemas are the components that messages and enums become, as ProtoJSON writes
// and reads them.
type schemas struct {
	source *route.Schemas
	seen   map[string]bool
	list   object
}

// add returns a reference to a component, and makes it when it is the first.
func (s *schemas) add(name string, component func() object) object {
	if !s.seen[name] {
		s.seen[name] = true
		made := component() // adds what it refers to, perhaps itself
		s.list = append(s.list, field{name, made})
	}
	return ref("schemas", name)
}

// sorted returns the components by name.
func (s *schemas) sorted() object {
	slices.SortFunc(s.list, func(a, b field) int { return strings.Compare(a.key, b.key) })
	return s.list
}

func (s *schemas) message(md protoreflect.MessageDescriptor) object {
	return s.add(string(md.FullName()), func() object {
		if known, ok := wellKnown[md.FullName()]; ok {
			return known.schema
		}
		schema := object{{"type", "object"}}.with("description", s.source.Comment(md))
		var properties object
		var required []string
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			properties = append(properties, field{fd.JSONName(), s.field(fd)})
			if fd.Cardinality() == protoreflect.Required {
				required = append(required, fd.JSONName())
			}
		}
		if len(properties) > 0 {
			schema = append(schema, field{"properties", properties})
		}
		if len(required) > 0 {
			schema = append(schema, field{"required", required})
		}
		return schema
	})
}

// field describes a field. What it refers to may have a description of its own,
// beside which that of the field is more to the point.
func (s *schemas) field(fd protoreflect.FieldDescriptor) object {
	description := s.source.Comment(fd)
	if oneof := fd.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
		var names []string
		for i := range oneof.Fields().Len() {
			names = append(names, "`"+oneof.Fields().Get(i).JSONName()+"`")
		}
		description = strings.TrimSpace(description + " At most one is set of " + strings.Join(names, ", ") + ".")
	}
	var schema object
	switch {
	case fd.IsMap():
		schema = object{{"type", "object"}, {"additionalProperties", s.value(fd.MapValue())}}
	case fd.IsList():
		schema = object{{"type", "array"}, {"items", s.value(fd)}}
	default:
		schema = s.value(fd)
	}
	schema = schema.with("description", description)
	if options, ok := fd.Options().(*descriptorpb.FieldOptions); ok && options.GetDeprecated() {
		schema = append(schema, field{"deprecated", true})
	}
	return schema
}

func (s *schemas) value(fd protoreflect.FieldDescriptor) object {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return object{{"type", "boolean"}}
	case protoreflect.StringKind:
		return object{{"type", "string"}}
	case protoreflect.BytesKind:
		return object{{"type", "string"}, {"contentEncoding", "base64"}}
	case protoreflect.DoubleKind, protoreflect.FloatKind: // NaN and the infinities are strings
		return object{{"type", []string{"number", "string"}}, {"format", fd.Kind().String()}}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return object{{"type", "integer"}, {"format", "int32"}}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return object{{"type", "integer"}, {"minimum", 0}, {"maximum", 1<<32 - 1}}
	case protoreflect.EnumKind:
		return s.enum(fd.Enum())
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return s.message(fd.Message())
	}
	// 64 bits: written as strings, read as either.
	return object{{"type", []string{"string", "integer"}}, {"format", "int64"}}
}

func (s *schemas) enum(ed protoreflect.EnumDescriptor) object {
	if ed.FullName() == nullValue {
		return object{{"type", "null"}}
	}
	return s.add(string(ed.FullName()), func() object {
		var names []string
		var comments strings.Builder
		comments.WriteString(s.source.Comment(ed))
		comments.WriteString("\n")
		for i := range ed.Values().Len() {
			vd := ed.Values().Get(i)
			names = append(names, string(vd.Name()))
			if comment := s.source.Comment(vd); comment != "" {
				comments.WriteString("\n- `" + string(vd.Name()) + "`: " + strings.Join(strings.Fields(comment), " "))
			}
		}
		return append(object{{"type", "string"}}.with("description", strings.TrimSpace(comments.String())), field{"enum", names})
	})
}
