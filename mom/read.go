package mom

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/route"
)

// readStore has the methods of the store that read tasks.
type readStore interface {
	// Get reads a task and its answer; the answer is nil when there is none yet,
	// or it has expired. It takes a bounded time, which is some seconds if the answer is large. ErrNotFound.
	Get(ctx context.Context, id contract.TaskID) (*momv1.Task, *momv1.Answer, error)
	// Listen has the transitions of a task published from now on, for as long as the store has the task. If you read a task and
	// then wait for its transitions, call Listen before you read. It does nothing if there is no such task.
	Listen(ctx context.Context, id contract.TaskID) error
}

// read reads a task.
func read(ctx context.Context, store readStore, id contract.TaskID) (*momv1.Task, *momv1.Answer, error) {
	task, answer, err := store.Get(ctx, id)
	if v := answer.GetRecordVersion(); answer != nil && !knownRecord(v) {
		err = fmt.Errorf("answer of task %s: %w: %d", id, ErrRecordVersion, v)
		return nil, nil, storeError(err)
	}
	return task, answer, storeError(err)
}

// listen is read for somebody who then waits for transitions of the task.
func listen(ctx context.Context, store readStore, id contract.TaskID) (*momv1.Task, *momv1.Answer, error) {
	task, answer, err := read(ctx, store, id)
	if err != nil || !contract.IsOpen(task.GetState()) {
		return task, answer, err
	}
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := store.Listen(bounded, id); err != nil {
		return nil, nil, storeError(err)
	}
	return read(ctx, store, id)
}

// of returns the schema with which an answer was written, or our schema if that one cannot be found:
// then readJSON finds out whether the answer fits our schema.
func (s *shelf) of(ctx context.Context, answer *momv1.Answer) *route.Schemas {
	if name := answer.GetSchema(); name != "" {
		if schemas, err := s.find(ctx, name); err == nil {
			return schemas
		}
	}
	return s.ours
}

// answerAs returns the message of an answer in the codec of its reader: as it came, or encoded
// anew. If that is not possible, the error explains the reason to the reader.
func (s *shelf) answerAs(ctx context.Context, codec string, task *momv1.Task, answer *momv1.Answer) ([]byte, error) {
	_, isJSON := answer.GetResult().(*momv1.Answer_Json)
	switch {
	case isJSON && codec == codecJSON && len(answer.GetJson()) == 0: // some services write nothing where no field is set
		return []byte("{}"), nil
	case isJSON && codec == codecJSON:
		return answer.GetJson(), nil
	case isJSON:
		message, err := s.readProto(ctx, task.GetProcedure(), answer)
		if errors.Is(err, ErrUnavailable) {
			return nil, storeError(err)
		} else if err != nil {
			return nil, contract.Errorf(momv1.Reason_REASON_ANSWER_UNREADABLE,
				"the call was executed, but its answer cannot be written as proto: %v; read it as JSON: GET /v1/tasks/%s/answer", err, task.GetId())
		}
		return message.GetValue(), nil
	case codec != codecJSON:
		return answer.GetMessage().GetValue(), nil
	}
	raw, err := readJSON(answer.GetMessage(), s.of(ctx, answer))
	if err != nil {
		return nil, contract.Errorf(momv1.Reason_REASON_ANSWER_UNREADABLE,
			"the call was executed, but its answer cannot be written as JSON: %v; read it as proto: GET /v1/tasks/%s/answer with Accept: application/proto", err, task.GetId())
	}
	return raw, nil
}

// withMessage returns an answer in the form that TaskService sends. An answer that is kept as JSON gets a
// message, or an UnknownMessage if no schema can read the JSON.
func (s *shelf) withMessage(ctx context.Context, task *momv1.Task, answer *momv1.Answer) *momv1.Answer {
	if _, isJSON := answer.GetResult().(*momv1.Answer_Json); !isJSON {
		return answer
	}
	message, err := s.readProto(ctx, task.GetProcedure(), answer)
	if err != nil {
		message, _ = anypb.New(&momv1.UnknownMessage{Value: answer.GetJson()}) // it is a message of ours
	}
	answer.Result = &momv1.Answer_Message{Message: message}
	return answer
}

// readProto makes a message of an answer that is kept as JSON, with the schema with which it was
// written: from JSON one cannot see whether it fits another schema. The message lacks fields that the schema does not know.
func (s *shelf) readProto(ctx context.Context, procedure string, answer *momv1.Answer) (*anypb.Any, error) {
	types := s.ours
	if name := answer.GetSchema(); name != "" {
		var err error
		if types, err = s.find(ctx, name); err != nil {
			return nil, fmt.Errorf("its schema is not to be had: %w", err)
		}
	}
	method := types.Method(procedure)
	if method == nil {
		return nil, fmt.Errorf("no schema has %s any more", procedure)
	}
	output := method.Descriptor.Output()
	msg, _, err := bridge.Decode(answer.GetJson(), true, output, types)
	if err != nil {
		return nil, fmt.Errorf("it is no %s: %w", output.FullName(), err)
	}
	value, err := bridge.Deterministic(msg)
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(output.FullName()), Value: value}, err
}

// readJSON writes a message as JSON, by its type. JSON leaves out fields that the type does not know, such as fields of a later
// schema. But if the message has a field with another type than the schema says, it was written with another schema, and leaving the field out would be an error.
func readJSON(message *anypb.Any, types *route.Schemas) ([]byte, error) {
	t, err := types.FindMessageByURL(message.GetTypeUrl())
	if err != nil {
		return nil, fmt.Errorf("no schema has %s any more", message.MessageName())
	}
	msg, _, err := bridge.Decode(message.GetValue(), false, t.Descriptor(), types)
	if err != nil {
		return nil, fmt.Errorf("it is no %s: %w", message.MessageName(), err)
	}
	bridge.EachMessage(msg, func(m protoreflect.Message) {
		if field := changed(m); field != nil {
			err = fmt.Errorf("its field %s has another type", field.FullName())
		}
	})
	if err != nil {
		return nil, err
	}
	return bridge.JSON(msg, types)
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

// storeError maps a store's error to the error that callers get. Internal errors stay as
// they are, to be logged.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound):
		return contract.Errorf(momv1.Reason_REASON_TASK_NOT_FOUND, "no such task").WithCause(err)
	case errors.Is(err, ErrCallDropped):
		return contract.Errorf(momv1.Reason_REASON_TASK_STATE,
			"the call is no longer kept, since the task was dismissed or given up; make the call again if it should run")
	case errors.Is(err, ErrUnavailable):
		return contract.Errorf(momv1.Reason_REASON_STORE_UNAVAILABLE, "the store is not available").WithCause(err)
	case errors.Is(err, ErrRecordVersion):
		return contract.Errorf(momv1.Reason_REASON_STORE_UNAVAILABLE, "this MOM cannot read the record of the task, which a newer release has stored, or which is damaged; another MOM may").WithCause(err)
	}
	return err
}
