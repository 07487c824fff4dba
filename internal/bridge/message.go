// Package bridge does protocol work by the descriptors of methods, with connect: messages that pass
// as they came, or are written in another codec, whatever their schema is; and calls of services that
// do not speak the protocol of their callers.
package bridge

import (
	"context"
	"errors"
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

// Incoming is a message that takes its bytes as they came. It keeps them.
type Incoming interface {
	Take(raw []byte, isJSON bool) error
}

// Message is a message as it came. Codecs write its bytes as they are: In translates them before that.
type Message struct {
	JSON  bool
	Bytes []byte
	Desc  protoreflect.MessageDescriptor // nil for one that is not translated

	lossy bool // JSON has less than the message: its schema does not know all fields
}

// Take implements Incoming.
func (m *Message) Take(raw []byte, isJSON bool) error {
	m.Bytes, m.JSON = raw, isJSON
	return nil
}

// take has a message take all that src has.
func take(m Incoming, src io.Reader, isJSON bool) error {
	raw, err := readAll(src)
	if err != nil {
		return err
	}
	return m.Take(raw, isJSON)
}

// readAll is io.ReadAll, with just the room that a message needs which says how long it is, as messages of connect's do.
func readAll(src io.Reader) ([]byte, error) {
	sized, ok := src.(interface{ Len() int })
	if !ok {
		return io.ReadAll(src)
	}
	all := make([]byte, sized.Len())
	n, err := io.ReadFull(src, all)
	if errors.Is(err, io.EOF) { // it is empty
		err = nil
	}
	return all[:n], err
}

// translating bounds how many messages are translated at once: a few kilobytes can be a million messages
// within one.
var translating = make(chan struct{}, runtime.GOMAXPROCS(0))

// In returns the message in a codec. If the schema does not know all of it, that is an error; with less, what
// the schema does not know is left out, as connect does.
func (m *Message) In(isJSON bool, types *route.Schemas, less bool) ([]byte, error) {
	if m.JSON == isJSON {
		return m.Bytes, nil
	}
	translating <- struct{}{}
	defer func() { <-translating }()
	return m.translate(types, less)
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
	m.lossy = !Known(msg)
	return JSON(msg, types)
}

// BinaryCodec passes messages as they are. For other types it is connect's, which also reads the
// details of errors.
type BinaryCodec struct{ *connectproto.BinaryCodec }

// JSONCodec is the same in JSON.
type JSONCodec struct{ *connectproto.JSONCodec }

// NewBinaryCodec returns the codec of the binary format.
func NewBinaryCodec(types *route.Schemas) BinaryCodec {
	codec := connectproto.NewBinaryCodec(connectproto.WithTypeResolver(types))
	codec.MarshalOptions.Deterministic = true
	return BinaryCodec{codec}
}

// NewJSONCodec returns the codec of JSON.
func NewJSONCodec(types *route.Schemas) JSONCodec {
	return JSONCodec{connectproto.NewJSONCodec(connectproto.WithTypeResolver(types))}
}

// MarshalWrite implements connect.Codec.
func (c BinaryCodec) MarshalWrite(ctx context.Context, dst io.Writer, msg any) error {
	if m, ok := msg.(*Message); ok {
		_, err := dst.Write(m.Bytes)
		return err
	}
	return c.BinaryCodec.MarshalWrite(ctx, dst, msg)
}

// UnmarshalRead implements connect.Codec.
func (c BinaryCodec) UnmarshalRead(ctx context.Context, src io.Reader, msg any) error {
	if m, ok := msg.(Incoming); ok {
		return take(m, src, false)
	}
	return c.BinaryCodec.UnmarshalRead(ctx, src, msg)
}

// MarshalWrite implements connect.Codec.
func (c JSONCodec) MarshalWrite(ctx context.Context, dst io.Writer, msg any) error {
	if m, ok := msg.(*Message); ok {
		raw := m.Bytes
		if len(raw) == 0 { // gRPC has no JSON for a message without fields
			raw = noFields
		}
		_, err := dst.Write(raw)
		return err
	}
	return c.JSONCodec.MarshalWrite(ctx, dst, msg)
}

// UnmarshalRead implements connect.Codec.
func (c JSONCodec) UnmarshalRead(ctx context.Context, src io.Reader, msg any) error {
	if m, ok := msg.(Incoming); ok {
		return take(m, src, true)
	}
	return c.JSONCodec.UnmarshalRead(ctx, src, msg)
}

var (
	_ connect.Codec = BinaryCodec{}
	_ connect.Codec = JSONCodec{}
)
