package mom

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/route"
)

// received is a request as it came, and as our schema reads it.
type received struct {
	raw  []byte
	json bool
	msg  *dynamicpb.Message
}

// by reads the request by another schema.
func (r *received) by(desc protoreflect.MessageDescriptor, types *route.Schemas) (*dynamicpb.Message, error) {
	msg := dynamicpb.NewMessage(desc)
	if r.json {
		return msg, protojson.UnmarshalOptions{Resolver: types, DiscardUnknown: true}.Unmarshal(r.raw, msg)
	}
	return msg, proto.UnmarshalOptions{Resolver: types}.Unmarshal(r.raw, msg)
}

// requestOf is what is kept of a message to compare others with. Its bytes are those of the message;
// schema names the schema that it was read by.
func requestOf(msg *dynamicpb.Message, bytes []byte, json bool, schema string) (Request, error) {
	req := Request{Fingerprint: digest(bytes), JSON: json, Schema: schema}
	unknown := false
	eachMessage(msg, func(m protoreflect.Message) { unknown = unknown || len(m.GetUnknown()) > 0 })
	if !unknown {
		return req, nil
	}
	known := proto.CloneOf(msg)
	eachMessage(known, func(m protoreflect.Message) { m.SetUnknown(nil) })
	bytes, err := deterministic(known)
	req.Known = digest(bytes)
	return req, err
}

func deterministic(msg proto.Message) ([]byte, error) {
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	if err != nil {
		return nil, fmt.Errorf("record the call: %w", err)
	}
	return bytes, nil
}

// same tells whether two requests that were read by one schema are the same. JSON has lost what the
// schema does not know, so next to it only what is known counts.
func (r Request) same(other Request) bool {
	if r.JSON || other.JSON {
		return r.known() == other.known()
	}
	return r.Fingerprint == other.Fingerprint
}

func (r Request) known() string {
	if r.Known != "" {
		return r.Known
	}
	return r.Fingerprint
}

// errIncomparable goes with ErrKeyReused where it cannot be known whether the request is another.
var errIncomparable = errors.New("the first request cannot be compared with this one")

// sameAs tells whether a request is the one that its key was used for: by the schema that the first was
// read by. Of a record of an older release only the call is there, until it is answered, and it is
// compared by our schema. The error is errIncomparable or the store's.
func (in *intake) sameAs(ctx context.Context, came *received, request Request, reused *KeyReusedError) (bool, error) {
	first, schemas, method := reused.First, in.cfg.Schemas, in.method
	switch {
	case first.Schema == "" && reused.Call == nil:
		return false, errIncomparable
	case first.Schema == "":
		var err error
		if first, err = in.requestOfCall(reused.Call); err != nil {
			return false, err
		}
		if first.same(request) {
			return true, nil
		}
		return false, errIncomparable // it may have come as JSON, or with a schema that knew more
	case first.Schema != request.Schema:
		var err error
		if schemas, err = in.shelf.find(ctx, first.Schema); errors.Is(err, ErrNotFound) {
			return false, errIncomparable
		} else if err != nil {
			return false, err
		}
		if method = schemas.Method(in.method.Procedure); method == nil {
			return false, errIncomparable
		}
		msg, err := came.by(method.Descriptor.Input(), schemas)
		if err != nil {
			return false, nil //nolint:nilerr // the first one was a message of that schema: this is another
		}
		bytes, err := deterministic(msg)
		if err != nil {
			return false, err
		}
		if request, err = requestOf(msg, bytes, came.json, first.Schema); err != nil {
			return false, err
		}
	}
	return first.same(request), nil
}

// requestOfCall reads a stored call by our schema.
func (in *intake) requestOfCall(call *momv1.Call) (Request, error) {
	stored := &received{raw: call.GetMessage()}
	msg, err := stored.by(in.method.Descriptor.Input(), in.cfg.Schemas)
	if err != nil {
		return Request{}, errors.Join(errIncomparable, err)
	}
	bytes, err := deterministic(msg)
	if err != nil {
		return Request{}, err
	}
	return requestOf(msg, bytes, false, "")
}

// keyReused is the error for a request under the key of another, as far as that is known.
func keyReused(err error) error {
	if errors.Is(err, errIncomparable) {
		return contract.Errorf(momv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED,
			"this %s was used for another request, or for one that cannot be compared with this one any more; use a new one only if this is another request", contract.HeaderKey)
	}
	return contract.Errorf(momv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED,
		"this %s was used for another request; use a new one for this one", contract.HeaderKey)
}

// eachMessage visits a message and all that are in it.
func eachMessage(msg protoreflect.Message, visit func(protoreflect.Message)) {
	visit(msg)
	msg.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			value.Map().Range(func(_ protoreflect.MapKey, value protoreflect.Value) bool {
				eachMessage(value.Message(), visit)
				return true
			})
		case field.IsMap(), field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				eachMessage(value.List().Get(i).Message(), visit)
			}
		default:
			eachMessage(value.Message(), visit)
		}
		return true
	})
}
