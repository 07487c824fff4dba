package mom

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/route"
)

// of returns the schema that an answer was written by, or ours where that is not to be had:
// readJSON finds out whether the answer follows it.
func (s *shelf) of(ctx context.Context, answer *momv1.Answer) *route.Schemas {
	if name := answer.GetSchema(); name != "" {
		if schemas, err := s.find(ctx, name); err == nil {
			return schemas
		}
	}
	return s.ours
}

// answerJSON renders the message of an answer. Callers are told in words why that cannot be.
func (m *MOM) answerJSON(ctx context.Context, task *momv1.Task, answer *momv1.Answer) ([]byte, error) {
	raw, err := readJSON(answer.GetMessage(), m.shelf.of(ctx, answer))
	if err != nil {
		return nil, contract.Errorf(momv1.Reason_REASON_ANSWER_UNREADABLE,
			"the call was executed, but its answer cannot be written as JSON: %v; read it as proto: GET /v1/tasks/%s/answer with Accept: application/proto", err, task.GetId())
	}
	return raw, nil
}

// readJSON renders a message by its type. JSON leaves out what the type does not know, as fields of a later
// schema; but a field that it knows as something else was written by another schema, and would be missed.
func readJSON(message *anypb.Any, types *route.Schemas) ([]byte, error) {
	t, err := types.FindMessageByURL(message.GetTypeUrl())
	if err != nil {
		return nil, fmt.Errorf("no schema has %s any more", message.MessageName())
	}
	msg := dynamicpb.NewMessage(t.Descriptor())
	if err := (proto.UnmarshalOptions{Resolver: types}).Unmarshal(message.GetValue(), msg); err != nil {
		return nil, fmt.Errorf("it is no %s: %w", message.MessageName(), err)
	}
	eachMessage(msg, func(m protoreflect.Message) {
		if field := changed(m); field != nil {
			err = fmt.Errorf("its field %s has another type", field.FullName())
		}
	})
	if err != nil {
		return nil, err
	}
	return marshalJSON(msg, types)
}

// changed returns a field that a message has with another type than its descriptor says.
func changed(m protoreflect.Message) protoreflect.FieldDescriptor {
	for unknown := m.GetUnknown(); len(unknown) > 0; {
		number, _, n := protowire.ConsumeField(unknown)
		if n < 0 {
			return nil
		}
		if field := m.Descriptor().Fields().ByNumber(number); field != nil {
			return field
		}
		unknown = unknown[n:]
	}
	return nil
}
