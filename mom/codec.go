package mom

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/route"
)

// stored is a message in the binary format that passes as it is: callers of the
// binary codec get the very bytes that the service sent.
type stored struct {
	bytes []byte
	desc  protoreflect.MessageDescriptor // for JSON
}

// binaryCodec embeds the usual one, which also decodes the details of gRPC errors.
type binaryCodec struct{ *connectproto.BinaryCodec }

func newBinaryCodec(types connectproto.TypeResolver) binaryCodec {
	codec := connectproto.NewBinaryCodec(connectproto.WithTypeResolver(types))
	codec.MarshalOptions.Deterministic = true
	return binaryCodec{codec}
}

// MarshalWrite implements connect.Codec.
func (c binaryCodec) MarshalWrite(ctx context.Context, dst io.Writer, msg any) error {
	if m, ok := msg.(*stored); ok {
		_, err := dst.Write(m.bytes)
		return err
	}
	return c.BinaryCodec.MarshalWrite(ctx, dst, msg)
}

// UnmarshalRead implements connect.Codec.
func (c binaryCodec) UnmarshalRead(ctx context.Context, src io.Reader, msg any) error {
	if m, ok := msg.(*stored); ok {
		var err error
		m.bytes, err = io.ReadAll(src)
		return err
	}
	return c.BinaryCodec.UnmarshalRead(ctx, src, msg)
}

// jsonCodec writes stored messages as JSON, and answers whatever is in them.
type jsonCodec struct {
	*connectproto.JSONCodec
	types *route.Schemas
}

func newJSONCodec(types *route.Schemas) jsonCodec {
	return jsonCodec{connectproto.NewJSONCodec(connectproto.WithTypeResolver(types)), types}
}

// MarshalWrite implements connect.Codec.
func (c jsonCodec) MarshalWrite(ctx context.Context, dst io.Writer, msg any) error {
	if m, ok := msg.(*stored); ok {
		raw, err := m.json(c.types)
		if err != nil {
			return err
		}
		_, err = dst.Write(raw)
		return err
	}
	if m, ok := msg.(interface{ GetAnswer() *momv1.Answer }); ok {
		c.show(m.GetAnswer())
	}
	return c.JSONCodec.MarshalWrite(ctx, dst, msg)
}

// show changes an answer so that it can be written as JSON: one message in it that
// has no JSON form would else hide all of the task.
func (c jsonCodec) show(answer *momv1.Answer) {
	for _, m := range append(answer.GetError().GetDetails(), answer.GetMessage()) {
		if m == nil {
			continue
		}
		if _, err := marshalJSON(m, c.types); err == nil {
			continue
		}
		unknown, err := anypb.New(&momv1.UnknownMessage{TypeUrl: m.GetTypeUrl(), Value: m.GetValue()})
		if err == nil { // it is a message of ours
			m.TypeUrl, m.Value = unknown.GetTypeUrl(), unknown.GetValue()
		}
	}
}

// json renders the message without the spaces that protojson varies.
func (m *stored) json(types *route.Schemas) ([]byte, error) {
	msg := dynamicpb.NewMessage(m.desc)
	if err := (proto.UnmarshalOptions{Resolver: types}).Unmarshal(m.bytes, msg); err != nil {
		return nil, fmt.Errorf("answer is no %s: %w", m.desc.FullName(), err)
	}
	return marshalJSON(msg, types)
}

func marshalJSON(msg proto.Message, types *route.Schemas) ([]byte, error) {
	raw, err := protojson.MarshalOptions{Resolver: types}.Marshal(msg)
	if err != nil {
		return nil, fmt.Errorf("as JSON: %w", err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return nil, fmt.Errorf("as JSON: %w", err)
	}
	return line.Bytes(), nil
}

var (
	_ connect.Codec = binaryCodec{}
	_ connect.Codec = jsonCodec{}
)
