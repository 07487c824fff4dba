// Package bridge does protocol work by the descriptors of methods, with connect: messages that pass
// as they came, or are written in another codec, whatever their schema is; and calls of services that
// do not speak the protocol of their callers.
package bridge

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

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

// translating bounds how many messages are translated at once: a few kilobytes can be a million messages
// within one.
var translating = make(chan struct{}, runtime.GOMAXPROCS(0))

// In returns the message in a codec. If the schema does not know all of it, that is an error; with less, what
// the schema does not know is left out, as connect does.
func (m *Message) In(isJSON bool, types *route.Schemas, less bool) ([]byte, error) {
	switch {
	case m.JSON != isJSON:
		translating <- struct{}{}
		defer func() { <-translating }()
		return m.translate(types, less)
	case isJSON && len(m.Bytes) == 0:
		return []byte("{}"), nil // gRPC has no JSON for a message without fields
	}
	return m.Bytes, nil
}

func (m *Message) translate(types *route.Schemas, less bool) ([]byte, error) {
	msg, whole, err := Decode(m.Bytes, m.JSON, m.Desc, types)
	if !whole && err == nil {
		if !less {
			return nil, fmt.Errorf("the schema of %s does not know all that is in it", m.Desc.FullName())
		}
		// What cannot be read, such as a type that no schema has, is not the same as what may be left out.
		proto.Reset(msg)
		err = protojson.UnmarshalOptions{Resolver: types, AllowPartial: true, DiscardUnknown: true}.Unmarshal(m.Bytes, msg)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("it is no %s: %w", m.Desc.FullName(), err)
	case m.JSON:
		return Deterministic(msg)
	}
	return JSON(msg, types)
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
	raw, err := m.In(isJSON, types, true)
	if err == nil {
		_, err = dst.Write(raw)
	}
	return err
}

var (
	_ connect.Codec = BinaryCodec{}
	_ connect.Codec = JSONCodec{}
)
