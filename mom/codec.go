package mom

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/types/known/anypb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/route"
)

// codecJSON is the codec of a record that is not in the binary format.
const codecJSON = connect.CodecNameJSON

// stored is a message that passes as it is, in either codec: callers get the very bytes
// that the service sent, and the service those that its caller did.
type stored struct{ bytes []byte }

func (s *stored) read(src io.Reader) (err error) {
	s.bytes, err = io.ReadAll(src)
	return err
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
	switch m := msg.(type) {
	case *stored:
		return m.read(src)
	case *received:
		return m.read(src)
	}
	return c.BinaryCodec.UnmarshalRead(ctx, src, msg)
}

// jsonCodec passes stored messages, and writes answers whatever is in them.
type jsonCodec struct {
	*connectproto.JSONCodec
	shelf *shelf
}

func newJSONCodec(shelf *shelf) jsonCodec {
	return jsonCodec{connectproto.NewJSONCodec(connectproto.WithTypeResolver(shelf.ours)), shelf}
}

var errNoJSON = errors.New("there is no JSON")

// UnmarshalRead implements connect.Codec.
func (c jsonCodec) UnmarshalRead(ctx context.Context, src io.Reader, msg any) error {
	switch m := msg.(type) {
	case *stored:
		return m.read(src)
	case *received:
		if err := m.read(src); err != nil {
			return err
		}
		if len(m.raw) == 0 {
			return errNoJSON // gRPC does not ask a codec about an empty message
		}
		return nil
	}
	return c.JSONCodec.UnmarshalRead(ctx, src, msg)
}

// MarshalWrite implements connect.Codec.
func (c jsonCodec) MarshalWrite(ctx context.Context, dst io.Writer, msg any) error {
	if m, ok := msg.(*stored); ok {
		_, err := dst.Write(m.bytes)
		return err
	}
	codec := c.JSONCodec
	if m, ok := msg.(interface{ GetAnswer() *momv1.Answer }); ok && m.GetAnswer() != nil {
		types := c.shelf.of(ctx, m.GetAnswer())
		show(m.GetAnswer(), types)
		codec = connectproto.NewJSONCodec(connectproto.WithTypeResolver(types))
	}
	return codec.MarshalWrite(ctx, dst, msg)
}

// show changes an answer so that it can be written as JSON: one message in it that
// has no JSON form would else hide all of the task.
func show(answer *momv1.Answer, types *route.Schemas) {
	for _, m := range append(answer.GetError().GetDetails(), answer.GetMessage()) {
		if m == nil {
			continue
		}
		if _, err := readJSON(m, types); err == nil {
			continue
		}
		unknown, err := anypb.New(&momv1.UnknownMessage{TypeUrl: m.GetTypeUrl(), Value: m.GetValue()})
		if err == nil { // it is a message of ours
			m.TypeUrl, m.Value = unknown.GetTypeUrl(), unknown.GetValue()
		}
	}
}

var (
	_ connect.Codec = binaryCodec{}
	_ connect.Codec = jsonCodec{}
)
