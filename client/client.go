// Package client is for programs that call through Holdline: it reads the handle
// out of an error, and waits for the task behind it.
package client

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
)

// TaskFrom returns the handle in an error that says that a call was stored, nil
// in any other.
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

// New returns Tasks that are read through a client of a gateway.
func New(client *connect.Client) *Tasks {
	return &Tasks{momv1connect.NewTaskServiceClient(client)}
}

// waitAtOnce is how long one request waits; there are as many as it takes.
const waitAtOnce = time.Minute

// Wait waits until a task has ended or ctx has, and returns the task. progress,
// if given, is called with the task as it is after each minute.
func (t *Tasks) Wait(ctx context.Context, id string, progress func(*momv1.Task)) (*momv1.Task, *momv1.Answer, error) {
	for {
		res, err := t.service.WaitTask(ctx, &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(waitAtOnce)})
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

// Answer waits for a task and unmarshals its answer into res. What the service
// answered with an error is that error. A task that ended without an answer is the error that a
// held caller gets in its place, with its code and its reason.
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

// asRemote marks an error as the server's word.
func asRemote(err error) error {
	var rpcErr *connect.Error
	if errors.As(err, &rpcErr) {
		return rpcErr.WithRemote()
	}
	return err
}
