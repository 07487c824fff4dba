package mom

import (
	"cmp"
	"context"
	"errors"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/route"
)

// received is a request: its bytes as they came, without compression, and the message that our schema reads from them.
type received struct {
	codec string // as records name it; empty for the binary format
	raw   []byte
	desc  protoreflect.MessageDescriptor
	types *route.Schemas
	msg   *dynamicpb.Message // nil: it is empty
	whole bool               // msg has everything that is in raw
}

// newReceived returns an empty request, into which Take puts the message.
func newReceived(codec string, desc protoreflect.MessageDescriptor, types *route.Schemas) *received {
	return &received{codec: codec, desc: desc, types: types, whole: true}
}

// Take implements bridge.Incoming.
func (r *received) Take(raw []byte, isJSON bool) (err error) {
	r.raw = raw
	if r.msg, r.whole, err = bridge.Decode(r.raw, isJSON, r.desc, r.types); err == nil && isJSON && len(r.raw) == 0 {
		err = errNoJSON // gRPC does not ask a codec about an empty message
	}
	return err
}

var errNoJSON = errors.New("there is no JSON")

func (r *received) json() bool { return r.codec == codecJSON }

// request returns what the record keeps to compare the request with others. schema is the name of our schema. If our schema lacks parts of
// the request, only its bytes can be compared.
func (r *received) request(schema string) (Request, error) {
	if !r.whole {
		return Request{Fingerprint: r.ofBytes(), JSON: true}, nil
	}
	return requestOf(r.message(), r.json(), schema)
}

func (r *received) message() *dynamicpb.Message {
	if r.msg == nil {
		r.msg = dynamicpb.NewMessage(r.desc)
	}
	return r.msg
}

func (r *received) ofBytes() string { return digest([]byte(r.codec), r.raw) }

// by reads the request with another schema. If the other schema lacks fields of a request in JSON, and ours does not, the request is first
// written in the binary format with our schema.
func (r *received) by(desc protoreflect.MessageDescriptor, types *route.Schemas) (*dynamicpb.Message, bool, error) {
	msg, whole, err := bridge.Decode(r.raw, r.json(), desc, types)
	if whole || err != nil || !r.whole {
		return msg, whole, err
	}
	raw, err := bridge.Deterministic(r.message())
	if err != nil {
		return nil, false, err
	}
	return bridge.Decode(raw, false, desc, types)
}

// requestOf returns what the record keeps of a whole message to compare other requests with it. schema is the name of the schema
// with which the message was read.
func requestOf(msg *dynamicpb.Message, json bool, schema string) (Request, error) {
	whole, err := bridge.Deterministic(msg)
	if err != nil {
		return Request{}, err
	}
	req := Request{Fingerprint: digest(whole), JSON: json, Schema: schema}
	if bridge.Known(msg) {
		return req, nil
	}
	msg = proto.CloneOf(msg)
	bridge.EachMessage(msg, func(m protoreflect.Message) { m.SetUnknown(nil) })
	known, err := bridge.Deterministic(msg)
	req.Known = digest(known)
	return req, err
}

// same tells whether two requests that were read with one schema are the same. Older releases
// dropped fields of JSON that the schema did not know. If only such fields can differ, it returns errIncomparable.
func (r Request) same(first Request) (bool, error) {
	switch {
	case r.Fingerprint == first.Fingerprint:
		return true, nil
	case (r.JSON || first.JSON) && r.known() == first.known():
		return false, errIncomparable
	}
	return false, nil
}

func (r Request) known() string { return cmp.Or(r.Known, r.Fingerprint) }

// errIncomparable goes with ErrKeyReused if it cannot be known whether the two requests differ.
var errIncomparable = errors.New("the first request cannot be compared with this one")

// sameAs tells whether a request is the same as the first request of its key, as far as that can be known. The
// error is errIncomparable or the store's.
func (in *intake) sameAs(ctx context.Context, came *received, request Request, reused *KeyReusedError) (bool, error) {
	first := reused.First
	switch first.Schema {
	case "":
		if first.Fingerprint == came.ofBytes() {
			return true, nil
		}
		return in.sameCall(came, request, reused.Call)
	case request.Schema:
		return request.same(first)
	}
	schemas, err := in.shelf.find(ctx, first.Schema)
	if errors.Is(err, ErrNotFound) {
		return false, errIncomparable
	} else if err != nil {
		return false, err
	}
	method := schemas.Method(in.method.Procedure)
	if method == nil {
		return false, errIncomparable
	}
	msg, whole, err := came.by(method.Descriptor.Input(), schemas)
	switch {
	case err != nil:
		return false, nil //nolint:nilerr // the first request fits that schema and this one does not, so they differ
	case whole:
		if request, err = requestOf(msg, came.json(), first.Schema); err != nil {
			return false, err
		}
		return request.same(first)
	case first.JSON, first.Known != "": // the first request may have had fields that its schema did not know
		return false, errIncomparable
	}
	return false, nil
}

// sameCall compares a request with a first request whose record names no schema: it came as JSON and was not read whole, or an older release
// has stored it, perhaps without the fields that its schema did not know. Only its call can be compared, read with our
// schema, and the store has the call only until it is answered.
func (in *intake) sameCall(came *received, request Request, call *momv1.Call) (bool, error) {
	if call == nil || !came.whole {
		return false, errIncomparable
	}
	msg, whole, err := bridge.Decode(call.GetMessage(), call.GetCodec() == codecJSON, in.method.Descriptor.Input(), in.shelf.ours.Of(in.method.Service()))
	if err != nil || !whole {
		return false, errors.Join(errIncomparable, err)
	}
	first, err := requestOf(msg, call.GetCodec() == codecJSON, "")
	if err != nil {
		return false, err
	}
	same, err := request.same(first)
	if !same && !first.JSON {
		err = errIncomparable
	}
	return same, err
}

// keyReused is the error for a request whose key was used for another request, or for one that cannot be compared.
func keyReused(err error) error {
	if errors.Is(err, errIncomparable) {
		return contract.Errorf(momv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED,
			"this %s was used for another request, or for one that cannot be compared with this one any more; use a new one only if this is another request", contract.HeaderKey)
	}
	return contract.Errorf(momv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED,
		"this %s was used for another request; use a new one for this one", contract.HeaderKey)
}
