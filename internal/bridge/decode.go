package bridge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/internal/cores"
	"holdline/internal/route"
)

// slow is the size of a message, in bytes, from which on it may take a millisecond to read and to write it by its schema.
const slow = 4 << 10

// Decode reads a message by a schema. The message is whole if nothing was left out: the
// binary format keeps what the schema does not know, but fields, values of enums and types in an Any
// that it does not know are lost from JSON. A message that lacks a required field is read, too:
// its service decides whether to take it.
func Decode(raw []byte, isJSON bool, desc protoreflect.MessageDescriptor, types *route.Schemas) (msg *dynamicpb.Message, whole bool, err error) {
	defer caught(&err)
	if len(raw) > slow {
		cores.UseAll()
	}
	msg, _ = dynamicpb.NewMessageType(desc).Zero().(*dynamicpb.Message) // Unmarshal makes room for its fields
	switch {
	case !isJSON:
		return msg, true, proto.UnmarshalOptions{Resolver: types, AllowPartial: true}.Unmarshal(raw, msg)
	case len(raw) == 0: // gRPC has no JSON for a message without fields
		proto.Reset(msg)
		return msg, true, nil
	case protojson.UnmarshalOptions{Resolver: types, AllowPartial: true}.Unmarshal(raw, msg) == nil:
		return msg, true, nil
	}
	proto.Reset(msg)
	return msg, false, protojson.UnmarshalOptions{Resolver: lenient{types}, AllowPartial: true, DiscardUnknown: true}.Unmarshal(raw, msg)
}

// caught makes an error of a panic. Libraries trust that the types which JSON writes in its own way, such as
// google.protobuf.Timestamp, are what they are called, and a schema may say anything.
func caught(err *error) {
	if panicked := recover(); panicked != nil {
		*err = fmt.Errorf("its schema is not what it should be: %v", panicked)
	}
}

// lenient resolves a type that no schema has as a message without fields.
type lenient struct{ *route.Schemas }

// FindMessageByURL resolves the types of Any.
func (l lenient) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	found, err := l.Schemas.FindMessageByURL(url)
	if err != nil && protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:]).IsValid() {
		return unknownType, nil
	}
	return found, err
}

var unknownType = makeUnknownType()

func makeUnknownType() protoreflect.MessageType {
	name := "unknown"
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{Name: &name, MessageType: []*descriptorpb.DescriptorProto{{Name: &name}}}, nil)
	if err != nil {
		panic(err) // it is always the same file
	}
	return dynamicpb.NewMessageType(file.Messages().Get(0))
}

// Deterministic writes a message in the binary format, equal messages alike.
func Deterministic(msg proto.Message) ([]byte, error) {
	raw, err := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.MarshalAppend(make([]byte, 0, 128), msg) // most are not larger
	if err != nil {
		return nil, fmt.Errorf("in the binary format: %w", err)
	}
	return raw, nil
}

// JSON writes a message as JSON, on one line.
func JSON(msg proto.Message, types *route.Schemas) (written []byte, err error) {
	defer caught(&err)
	raw, err := protojson.MarshalOptions{Resolver: types, AllowPartial: true}.Marshal(msg)
	if err != nil {
		return nil, fmt.Errorf("as JSON: %w", err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return nil, fmt.Errorf("as JSON: %w", err)
	}
	return line.Bytes(), nil
}

// Known tells whether the schema knows all fields of a message that was read from the binary format, and of all messages in it.
func Known(msg protoreflect.Message) bool {
	known := true
	EachMessage(msg, func(m protoreflect.Message) { known = known && len(m.GetUnknown()) == 0 })
	return known
}

// EachMessage visits a message and all that are in it.
func EachMessage(msg protoreflect.Message, visit func(protoreflect.Message)) {
	visit(msg)
	msg.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			value.Map().Range(func(_ protoreflect.MapKey, value protoreflect.Value) bool {
				EachMessage(value.Message(), visit)
				return true
			})
		case field.IsMap(), field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				EachMessage(value.List().Get(i).Message(), visit)
			}
		default:
			EachMessage(value.Message(), visit)
		}
		return true
	})
}
