// Package bridge does protocol work by the descriptors of methods, with connect: messages that pass
// as they came, or are written in another codec, whatever their schema is; and calls of services that
// do not speak the protocol of their callers.
package bridge

import (
	"context"
	"fmt"
	"io"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/internal/route"
)

// MaxMessage is the largest message that is read, in bytes without its compression.
const MaxMessage = 4 << 20

// Incoming is a message that takes its bytes as they come.
type Incoming interface {
	Take(src io.Reader, isJSON bool) error
}

// Message is a message as it came. In its own codec it is written as it is, and in the other one by
// its schema.
type Message struct {
	JSON  bool
	Bytes []byte
	Desc  protoreflect.MessageDescriptor // nil for one that is never written in the other codec
}

// Take implements Incoming.
func (m *Message) Take(src io.Reader, isJSON bool) (err error) {
	m.JSON = isJSON
	m.Bytes, err = io.ReadAll(src)
	return err
}

// In returns the message in a codec. Like connect, it leaves out fields of JSON that the schema does
// not know.
func (m *Message) In(isJSON bool, types *route.Schemas) ([]byte, error) {
	switch {
	case m.JSON == isJSON:
		return m.Bytes, nil
	case isJSON:
		msg, _, err := Decode(m.Bytes, false, m.Desc, types)
		if err != nil {
			return nil, fmt.Errorf("it is no %s: %w", m.Desc.FullName(), err)
		}
		return JSON(msg, types)
	}
	msg := dynamicpb.NewMessage(m.Desc)
	if len(m.Bytes) > 0 { // gRPC has no JSON for a message without fields
		if err := (protojson.UnmarshalOptions{Resolver: types, AllowPartial: true, DiscardUnknown: true}).Unmarshal(m.Bytes, msg); err != nil {
			return nil, fmt.Errorf("it is no %s: %w", m.Desc.FullName(), err)
		}
	}
	return Deterministic(msg)
}

// BinaryCodec passes messages as they are. For other types it is connect's, which also reads the
// details of errors.
type BinaryCodec struct {
	*connectproto.BinaryCodec
	types *route.Schemas
}

// JSONCodec is the same in JSON.
type JSONCodec struct {
	*connectproto.JSONCodec
	types *route.Schemas
}

// NewBinaryCodec returns the codec of the binary format.
func NewBinaryCodec(types *route.Schemas) BinaryCodec {
	codec := connectproto.NewBinaryCodec(connectproto.WithTypeResolver(types))
	codec.MarshalOptions.Deterministic = true
	return BinaryCodec{codec, types}
}

// NewJSONCodec returns the codec of JSON.
func NewJSONCodec(types *route.Schemas) JSONCodec {
	return JSONCodec{connectproto.NewJSONCodec(connectproto.WithTypeResolver(types)), types}
}

// MarshalWrite implements connect.Codec.
func (c BinaryCodec) MarshalWrite(ctx context.Context, dst io.Writer, msg any) error {
	if m, ok := msg.(*Message); ok {
		return m.write(dst, false, c.types)
	}
	return c.BinaryCodec.MarshalWrite(ctx, dst, msg)
}

// UnmarshalRead implements connect.Codec.
func (c BinaryCodec) UnmarshalRead(ctx context.Context, src io.Reader, msg any) error {
	if m, ok := msg.(Incoming); ok {
		return m.Take(src, false)
	}
	return c.BinaryCodec.UnmarshalRead(ctx, src, msg)
}

// MarshalWrite implements connect.Codec.
func (c JSONCodec) MarshalWrite(ctx context.Context, dst io.Writer, msg any) error {
	if m, ok := msg.(*Message); ok {
		return m.write(dst, true, c.types)
	}
	return c.JSONCodec.MarshalWrite(ctx, dst, msg)
}

// UnmarshalRead implements connect.Codec.
func (c JSONCodec) UnmarshalRead(ctx context.Context, src io.Reader, msg any) error {
	if m, ok := msg.(Incoming); ok {
		return m.Take(src, true)
	}
	return c.JSONCodec.UnmarshalRead(ctx, src, msg)
}

func (m *Message) write(dst io.Writer, isJSON bool, types *route.Schemas) error {
	raw, err := m.In(isJSON, types)
	if err == nil {
		_, err = dst.Write(raw)
	}
	return err
}

var (
	_ connect.Codec = BinaryCodec{}
	_ connect.Codec = JSONCodec{}
)
