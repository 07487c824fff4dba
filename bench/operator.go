package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
)

// operator asks a MOM at its admin listener, a socket.
type operator struct {
	socket string
	http   *http.Client
}

func newOperator(socket string) *operator {
	return &operator{socket, &http.Client{Timeout: replayTime, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}}
}

// ask calls a unary method of Holdline's own.
func (o *operator) ask(ctx context.Context, procedure string, request, answer proto.Message) error {
	message, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+procedure, bytes.NewReader(message))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/proto")
	body, err := o.body(req)
	if err != nil {
		return fmt.Errorf("%s: %w", procedure, err)
	}
	return proto.Unmarshal(body, answer)
}

func (o *operator) body(req *http.Request) ([]byte, error) {
	res, err := o.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", res.Status, body)
	}
	return body, err
}

// open is how many tasks of a service have not ended.
func (o *operator) open(ctx context.Context, of string) (int, error) {
	var answer momv1.ListQueuesResponse
	if err := o.ask(ctx, "/mom.v1.QueueService/ListQueues", &momv1.ListQueuesRequest{}, &answer); err != nil {
		return 0, err
	}
	for _, q := range answer.GetQueues() {
		if q.GetService() == of {
			return int(q.GetQueued() + q.GetRunning() + q.GetRetrying()), nil
		}
	}
	return 0, fmt.Errorf("no queue of %s", of)
}

// wait waits until a task has ended, with an answer.
func (o *operator) wait(ctx context.Context, id string) error {
	var task momv1.WaitTaskResponse
	err := o.ask(ctx, "/mom.v1.TaskService/WaitTask", &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(patience)}, &task)
	if err == nil && (task.GetTask().GetState() != momv1.TaskState_TASK_STATE_SUCCEEDED || task.GetAnswer() == nil) {
		err = fmt.Errorf("task %s is %s, and its answer %v", id, task.GetTask().GetState(), task.GetAnswer())
	}
	return err
}

// stored is how many calls of the service the MOM has made tasks since it started.
func (o *operator) stored(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		return 0, err
	}
	body, err := o.body(req)
	if err != nil {
		return 0, err
	}
	const series = `holdline_mom_calls_total{result="stored",service="` + service + `"} `
	for lines := bufio.NewScanner(bytes.NewReader(body)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), series); ok {
			n, err := strconv.ParseFloat(value, 64)
			return int(n), err
		}
	}
	return 0, errors.New("the MOM has no series " + series)
}
