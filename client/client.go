// Package client is for Go programs that call services through Holdline. When a call was stored, it
// reads the handle from the error, and waits for the answer of the task.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
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
		res, err := t.wait(ctx, id)
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

// patience is for how long a request is made again that may not fail the next time; in pauses of up to maxPause.
const patience, maxPause = time.Minute, 2 * time.Second

// wait waits once.
func (t *Tasks) wait(ctx context.Context, id string) (*momv1.WaitTaskResponse, error) {
	failing := time.Time{}
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, maxPause) {
		res, err := t.service.WaitTask(ctx, &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(waitAtOnce)})
		if failing.IsZero() {
			failing = time.Now()
		}
		if err == nil || !passes(err) || ctx.Err() != nil || time.Since(failing) >= patience {
			return res, err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)): // many may wait for the same gateway
		case <-ctx.Done():
			return nil, err
		}
	}
}

// passes tells of an error that may not come again: somebody lacks a part of the system, or the connection ended.
func passes(err error) bool {
	var wrong *tls.CertificateVerificationError
	if errors.As(err, &wrong) {
		return false
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" { // one that took too long is deadline_exceeded to connect
		return true
	}
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} { // not all of them are unavailable to connect
		if errors.Is(err, end) {
			return true
		}
	}
	return connect.CodeOf(err) == connect.CodeUnavailable
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
