// Package client is for Go programs that call services through Holdline. When a call was stored, it
// reads the handle from the error, and waits for the answer of the task.
package client

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
)

// TaskFrom returns the handle from the error of a call that was stored. It returns nil for every
// other error.
func TaskFrom(err error) *momv1.TaskHandle {
	var rpcErr *connect.Error
	if !errors.As(err, &rpcErr) {
		return nil
	}
	for _, detail := range rpcErr.Details() {
		if msg, err := connectproto.UnmarshalErrorDetail(detail); err == nil {
			if handle, ok := msg.(*momv1.TaskHandle); ok {
				return handle
			}
		}
	}
	return nil
}

// Tasks reads tasks. It is safe for concurrent use.
type Tasks struct {
	service momv1connect.TaskServiceClient
}

// New returns Tasks of the gateway that a client calls.
func New(client *connect.Client) *Tasks {
	return &Tasks{momv1connect.NewTaskServiceClient(client)}
}

// waitAtOnce is how long one request waits. Wait makes as many requests as it needs.
const waitAtOnce = time.Minute

// Wait waits until a task has ended, and returns the task with its answer, if it has one. It fails
// when ctx ends before that. While no gateway, no MOM or no store can be reached, as when one is replaced, it asks again for about a
// minute: to ask is always safe. progress may be nil; otherwise Wait calls it once a minute with the task.
func (t *Tasks) Wait(ctx context.Context, id string, progress func(*momv1.Task)) (*momv1.Task, *momv1.Answer, error) {
	for {
		res, err := failsafe.With(patience).WithContext(ctx).Get(func() (*momv1.WaitTaskResponse, error) {
			return t.service.WaitTask(ctx, &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(waitAtOnce)})
		})
		if err != nil {
			return nil, nil, err
		}
		if !contract.IsOpen(res.GetTask().GetState()) {
			return res.GetTask(), res.GetAnswer(), nil
		}
		if progress != nil {
			progress(res.GetTask())
		}
	}
}

// patience asks again in pauses of up to 2 s, about a minute in all.
var patience = retrypolicy.NewBuilder[*momv1.WaitTaskResponse]().
	HandleIf(func(_ *momv1.WaitTaskResponse, err error) bool { return passes(err) }).
	WithBackoff(100*time.Millisecond, 2*time.Second).WithJitterFactor(0.25).
	WithMaxRetries(35).ReturnLastFailure().Build()

// passes tells of an error that may not come again: nobody has answered, or somebody who lacks a part of the system.
func passes(err error) bool {
	var rpcErr *connect.Error
	return errors.As(err, &rpcErr) && (rpcErr.Code() == connect.CodeUnavailable || !rpcErr.IsRemote())
}

// Answer waits until a task has ended, and unmarshals its answer into res. If the service answered with an
// error, Answer returns that error. If the task ended without an answer, Answer returns the error
// that a held caller gets then, with its code and its reason.
func (t *Tasks) Answer(ctx context.Context, id string, res proto.Message) error {
	task, answer, err := t.Wait(ctx, id, nil)
	if err != nil {
		return err
	}
	if err := contract.TaskError(task, answer); err != nil {
		return asRemote(err)
	}
	return answer.GetMessage().UnmarshalTo(res)
}

// asRemote marks an error as one that came from the server.
func asRemote(err error) error {
	var rpcErr *connect.Error
	if errors.As(err, &rpcErr) {
		return rpcErr.WithRemote()
	}
	return err
}
