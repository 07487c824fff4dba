package mom

import (
	"bytes"
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

// received is a request as our schema reads it; with a key also as it came.
type received struct {
	msg   *dynamicpb.Message
	json  bool
	keyed bool
	raw   bytes.Buffer
}

// by reads the request by another schema.
func (r *received) by(desc protoreflect.MessageDescriptor, types *route.Schemas) (*dynamicpb.Message, error) {
	if !r.json {
		return readProto(r.raw.Bytes(), desc, types)
	}
	msg := dynamicpb.NewMessage(desc)
	return msg, protojson.UnmarshalOptions{Resolver: types, DiscardUnknown: true}.Unmarshal(r.raw.Bytes(), msg)
}

func readProto(raw []byte, desc protoreflect.MessageDescriptor, types *route.Schemas) (*dynamicpb.Message, error) {
	msg := dynamicpb.NewMessage(desc)
	return msg, proto.UnmarshalOptions{Resolver: types}.Unmarshal(raw, msg)
}

// requestOf is what is kept of a message to compare others with. schema names the schema that the message was
// read by.
func requestOf(msg *dynamicpb.Message, json bool, schema string) (Request, error) {
	whole, err := deterministic(msg)
	if err != nil {
		return Request{}, err
	}
	req := Request{Fingerprint: digest(whole), JSON: json, Schema: schema}
	unknown := false
	eachMessage(msg, func(m protoreflect.Message) { unknown = unknown || len(m.GetUnknown()) > 0 })
	if !unknown {
		return req, nil
	}
	msg = proto.CloneOf(msg)
	eachMessage(msg, func(m protoreflect.Message) { m.SetUnknown(nil) })
	known, err := deterministic(msg)
	req.Known = digest(known)
	return req, err
}

func deterministic(msg proto.Message) ([]byte, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	if err != nil {
		return nil, fmt.Errorf("record the call: %w", err)
	}
	return raw, nil
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

// sameAs tells whether a request is the one that its key was used for, as far as that can be known. The
// error is errIncomparable or the store's.
func (in *intake) sameAs(ctx context.Context, came *received, request Request, reused *KeyReusedError) (bool, error) {
	first := reused.First
	switch first.Schema {
	case "":
		return in.sameCall(request, reused.Call)
	case request.Schema:
		return request.same(first), nil
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
	msg, err := came.by(method.Descriptor.Input(), schemas)
	if err != nil {
		return false, nil //nolint:nilerr // the first one was a message of that schema: this is another
	}
	request, err = requestOf(msg, came.json, first.Schema)
	return err == nil && request.same(first), err
}

// sameCall compares a request with one that an older release stored: only the call is there, until it is
// answered, and our schema to read it by. The call may have come as JSON, so that it lacks what was not known, or
// with a schema that knew more: if the two differ, nobody can tell.
func (in *intake) sameCall(request Request, call *momv1.Call) (bool, error) {
	if call == nil {
		return false, errIncomparable
	}
	msg, err := readProto(call.GetMessage(), in.method.Descriptor.Input(), in.cfg.Schemas)
	if err != nil {
		return false, errors.Join(errIncomparable, err)
	}
	first, err := requestOf(msg, false, "")
	if err == nil && !request.same(first) {
		err = errIncomparable
	}
	return err == nil, err
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
