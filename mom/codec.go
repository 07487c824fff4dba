package mom

import (
	"context"
	"io"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/types/known/anypb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/route"
)

// codecJSON is the codec of a record that is not in the binary format.
const codecJSON = connect.CodecNameJSON

// jsonCodec can write every answer as JSON, whatever is in it.
type jsonCodec struct {
	bridge.JSONCodec
	shelf *shelf
}

func newJSONCodec(shelf *shelf) jsonCodec { return jsonCodec{bridge.NewJSONCodec(shelf.ours), shelf} }

// MarshalWrite implements connect.Codec.
func (c jsonCodec) MarshalWrite(ctx context.Context, dst io.Writer, msg any) error {
	m, ok := msg.(interface{ GetAnswer() *momv1.Answer })
	if !ok || m.GetAnswer() == nil {
		return c.JSONCodec.MarshalWrite(ctx, dst, msg)
	}
	types := c.shelf.of(ctx, m.GetAnswer())
	show(m.GetAnswer(), types)
	return connectproto.NewJSONCodec(connectproto.WithTypeResolver(types)).MarshalWrite(ctx, dst, msg)
}

// show changes an answer so that it can be written as JSON. Otherwise one message in it that
// has no JSON form would make the whole task unreadable.
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
