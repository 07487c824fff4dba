package mom

import (
	"cmp"
	"context"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/logonce"
)

// Limits of TaskService.
const (
	defaultPage, maxPage = 50, 1000
	maxWatched           = 100
	listReaders          = 8 // shards that a list reads at once
)

// taskStore is what the service of tasks needs of the store.
type taskStore interface {
	readStore
	// List reads at most limit of a caller's tasks in one shard, newest first:
	// tasks with a ULID smaller than before (all if before is empty), in one of
	// the states (any if none is given). It looks at a bounded number of
	// tasks, and stops when ctx's time is over, so it may find none although there are some: next is where to go on,
	// empty at the end. It is unavailable only if it could look at none in time.
	List(ctx context.Context, shard Shard, caller, before string, limit int, states []momv1.TaskState) (tasks []*momv1.Task, next string, err error)
	// Cancel cancels a task that was never sent, and dismisses a task that is DEAD or
	// UNCERTAIN. Any other task that was sent may have run:
	// ErrTaskState. Cancelling a cancelled task succeeds. ErrNotFound.
	Cancel(ctx context.Context, id contract.TaskID) error
	// Dismiss ends the wait of a DEAD or UNCERTAIN task for a person: its call is
	// dropped, its state stays until its record expires. Dismissing a dismissed task
	// succeeds. ErrNotFound, ErrTaskState.
	Dismiss(ctx context.Context, id contract.TaskID) error
	// Retry puts a DEAD or UNCERTAIN task back to the tail of its queue, as
	// if new. ErrNotFound, ErrTaskState, ErrCallDropped.
	Retry(ctx context.Context, id contract.TaskID) error
}

// taskService implements momv1connect.TaskServiceHandler and /v1/tasks/.
type taskService struct {
	store    taskStore
	shelf    *shelf
	shards   *shards
	waiters  *waiters
	draining <-chan struct{}
	once     *logonce.Logger
}

// GetTask implements momv1connect.TaskServiceHandler.
func (s *taskService) GetTask(ctx context.Context, req *momv1.GetTaskRequest) (*momv1.GetTaskResponse, error) {
	task, answer, err := s.find(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &momv1.GetTaskResponse{Task: task, Answer: s.shelf.withMessage(ctx, task, answer)}, nil
}

// WaitTask implements momv1connect.TaskServiceHandler.
func (s *taskService) WaitTask(ctx context.Context, req *momv1.WaitTaskRequest) (*momv1.WaitTaskResponse, error) {
	id, err := parseID(req.GetId())
	if err != nil {
		return nil, err
	}
	about(ctx, id)
	s.shards.meet(ctx, ShardOf(id))
	waiter := s.waiters.add(true)
	defer waiter.leave()
	waiter.waitFor(id)
	over := time.NewTimer(waitOf(req.GetWait()))
	defer over.Stop()
	for waiting := true; ; {
		task, answer, err := listen(ctx, s.store, id)
		if err != nil {
			return nil, err
		}
		if !waiting || !contract.IsOpen(task.GetState()) {
			return &momv1.WaitTaskResponse{Task: task, Answer: s.shelf.withMessage(ctx, task, answer)}, nil
		}
		select {
		case <-waiter.changed:
		case <-over.C:
			waiting = false
		case <-s.draining:
			waiting = false
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func waitOf(d *durationpb.Duration) time.Duration {
	if d == nil {
		return contract.DefaultHold
	}
	return min(d.AsDuration(), contract.MaxHold)
}

// ListTasks implements momv1connect.TaskServiceHandler. It asks every shard for a
// page and merges the pages. The token is the ULID down to which all tasks were listed. So a
// page may be short, or even empty, without being the last (AIP-158). It is also short if
// some shards could only be read in part within listTime. If a shard could not be read at all, the list is an error.
func (s *taskService) ListTasks(ctx context.Context, req *momv1.ListTasksRequest) (*momv1.ListTasksResponse, error) {
	size := min(cmp.Or(int(req.GetPageSize()), defaultPage), maxPage)
	if size < 0 {
		return nil, connect.NewError(connect.CodeInvalidArgument, "page_size must not be negative")
	}
	if name := req.GetService(); name != "" && s.shards.alarm(name) == nil {
		return nil, contract.Errorf(momv1.Reason_REASON_NO_ROUTE, "no route for service %q, and no tasks of it", name)
	}
	var all []*momv1.Task
	horizon := "" // older tasks may be missing from a shard's list
	shards, _ := s.shards.all()
	shards = slices.DeleteFunc(shards, func(shard Shard) bool { return req.GetService() != "" && req.GetService() != shard.Service })
	bounded, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	group, reading := errgroup.WithContext(bounded)
	group.SetLimit(listReaders)
	var mu sync.Mutex
	for _, shard := range shards {
		group.Go(func() error {
			tasks, next, err := s.store.List(reading, shard, contract.Anonymous, req.GetPageToken(), size, req.GetStates())
			mu.Lock()
			defer mu.Unlock()
			all, horizon = append(all, tasks...), max(horizon, next)
			return err
		})
	}
	switch err := group.Wait(); {
	case err != nil && bounded.Err() != nil && ctx.Err() == nil:
		return nil, contract.Errorf(momv1.Reason_REASON_STORE_UNAVAILABLE, "the tasks could not be read within %s", listTime).WithCause(err)
	case err != nil:
		return nil, storeError(err)
	}
	slices.SortFunc(all, func(a, b *momv1.Task) int { return strings.Compare(ulidOf(b), ulidOf(a)) })
	page := &momv1.ListTasksResponse{NextPageToken: horizon}
	for _, task := range all {
		if ulidOf(task) < horizon {
			break
		}
		if len(page.GetTasks()) == size {
			page.NextPageToken = ulidOf(page.GetTasks()[size-1])
			break
		}
		page.Tasks = append(page.Tasks, task)
	}
	return page, nil
}

// ulidOf is the end of a task's id: ULIDs sort by time.
func ulidOf(task *momv1.Task) string {
	return task.GetId()[strings.LastIndexByte(task.GetId(), '.')+1:]
}

// The log messages for changes of a task.
const (
	taskCancelled = "task cancelled"
	taskDismissed = "task dismissed"
)

// CancelTask implements momv1connect.TaskServiceHandler.
func (s *taskService) CancelTask(ctx context.Context, req *momv1.CancelTaskRequest) (*momv1.CancelTaskResponse, error) {
	task, err := s.change(ctx, req.GetId(), taskCancelled, s.store.Cancel,
		"the task was sent to its service, or has ended; it cannot be cancelled any more")
	return &momv1.CancelTaskResponse{Task: task}, err
}

// RetryTask implements momv1connect.TaskServiceHandler.
func (s *taskService) RetryTask(ctx context.Context, req *momv1.RetryTaskRequest) (*momv1.RetryTaskResponse, error) {
	task, err := s.change(ctx, req.GetId(), "task to be retried", s.store.Retry, "only a dead or uncertain task can be retried")
	return &momv1.RetryTaskResponse{Task: task}, err
}

// DismissTask implements momv1connect.TaskServiceHandler.
func (s *taskService) DismissTask(ctx context.Context, req *momv1.DismissTaskRequest) (*momv1.DismissTaskResponse, error) {
	task, err := s.change(ctx, req.GetId(), taskDismissed, s.store.Dismiss, "only a dead or uncertain task can be dismissed")
	return &momv1.DismissTaskResponse{Task: task}, err
}

// WatchTasks implements momv1connect.TaskServiceHandler.
func (s *taskService) WatchTasks(ctx context.Context, req *momv1.WatchTasksRequest, stream momv1connect.TaskServiceWatchTasksServerStream) error {
	if len(req.GetIds()) == 0 || len(req.GetIds()) > maxWatched {
		return connect.Errorf(connect.CodeInvalidArgument, "ids: want 1 to %d", maxWatched)
	}
	last := make(map[contract.TaskID]momv1.TaskState, len(req.GetIds()))
	waiter := s.waiters.add(false)
	defer waiter.leave()
	for _, raw := range req.GetIds() {
		id, err := parseID(raw)
		if err != nil {
			return err
		}
		s.shards.meet(ctx, ShardOf(id))
		last[id] = momv1.TaskState_TASK_STATE_UNSPECIFIED
		waiter.waitFor(id)
	}
	for {
		ended := true
		for id, state := range last {
			if state != momv1.TaskState_TASK_STATE_UNSPECIFIED && !contract.IsOpen(state) {
				continue
			}
			task, _, err := listen(ctx, s.store, id)
			if err != nil {
				return err
			}
			if task.GetState() != state {
				last[id] = task.GetState()
				if err := stream.Send(&momv1.WatchTasksResponse{Task: task}); err != nil {
					return err
				}
			}
			ended = ended && !contract.IsOpen(task.GetState())
		}
		if ended {
			return nil
		}
		select {
		case <-waiter.changed:
		case <-s.draining:
			return connect.NewError(connect.CodeUnavailable, "this server is going away; watch again")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// change makes a transition, logs it as done, and returns the task as it is
// then. refused is the error's text if the task's state does not allow the transition.
func (s *taskService) change(ctx context.Context, raw, done string, transition func(context.Context, contract.TaskID) error, refused string) (*momv1.Task, error) {
	id, err := parseID(raw)
	if err != nil {
		return nil, err
	}
	about(ctx, id)
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	err = transition(bounded, id)
	cancel()
	switch {
	case errors.Is(err, ErrTaskState):
		return nil, contract.Errorf(momv1.Reason_REASON_TASK_STATE, "%s", refused)
	case err != nil:
		return nil, storeError(err)
	}
	task, _, err := read(ctx, s.store, id)
	if err == nil && done == taskCancelled && task.GetState() != momv1.TaskState_TASK_STATE_CANCELLED {
		done = taskDismissed // a dead or an uncertain one
	}
	s.changed(ctx, done, id)
	return task, err
}

func (s *taskService) find(ctx context.Context, raw string) (*momv1.Task, *momv1.Answer, error) {
	id, err := parseID(raw)
	if err != nil {
		return nil, nil, err
	}
	about(ctx, id)
	return read(ctx, s.store, id)
}

// about names the task in the response's headers.
func about(ctx context.Context, id contract.TaskID) {
	if info, ok := connect.CallInfoForServerContext(ctx); ok {
		info.ResponseHeader().Set(contract.HeaderTask, id.String())
	}
}

// parseID returns "no such task" for a text that is no id.
func parseID(raw string) (contract.TaskID, error) {
	id, err := contract.ParseTaskID(raw)
	if err != nil {
		return id, contract.Errorf(momv1.Reason_REASON_TASK_NOT_FOUND, "no such task: %v", err)
	}
	return id, nil
}

// serve returns a handler of GET requests about a task; show makes the response. Errors that an operator
// should know of are logged.
func (s *taskService) serve(show func(*http.Request, *momv1.Task, *momv1.Answer) (contentType string, raw []byte, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store") // also on errors: a task that is not there yet may be stored later
		contentType, raw := "", []byte(nil)
		task, answer, err := s.find(r.Context(), r.PathValue("id"))
		if err == nil {
			w.Header().Set(contract.HeaderTask, task.GetId())
			contentType, raw, err = show(r, task, answer)
		}
		if contract.ReasonOf(err) == momv1.Reason_REASON_STORE_UNAVAILABLE {
			w.Header().Del(contract.HeaderTask) // this error is not about the task, and another MOM may be able to read it
		}
		if err == nil {
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write(raw) // an error means that the caller has left
			return
		}
		if contract.ReasonOf(err) == momv1.Reason_REASON_CALL_STORED {
			for key, value := range contract.StoredHeader(task.GetId(), false) {
				w.Header().Set(key, value)
			}
		}
		notice(s.once, err, momv1connect.TaskServiceGetTaskProcedure, w.Header().Get(contract.HeaderTask))
		var rpcErr *connect.Error
		if !errors.As(err, &rpcErr) {
			rpcErr = connect.NewError(connect.CodeInternal, "internal error")
		}
		contract.WriteError(w, r, rpcErr)
	}
}

// showTask is for GET /v1/tasks/{id}.
func (s *taskService) showTask(_ *http.Request, task *momv1.Task, _ *momv1.Answer) (string, []byte, error) {
	raw, err := bridge.JSON(task, s.shelf.ours)
	return "application/json", raw, err
}

// showAnswer is for GET /v1/tasks/{id}/answer: the message, as JSON or by Accept as
// proto, or the error that the caller would have got instead.
func (s *taskService) showAnswer(r *http.Request, task *momv1.Task, answer *momv1.Answer) (string, []byte, error) {
	if err := contract.TaskError(task, answer); err != nil {
		return "", nil, err
	}
	codec := codecJSON
	if prefersProto(r.Header.Values("Accept")) {
		codec = connect.CodecNameProto
	}
	message, err := s.shelf.answerAs(r.Context(), codec, task, answer)
	return "application/" + codec, message, err
}

// prefersProto tells whether Accept headers ask for proto, and do not prefer JSON to it (RFC 9110, section 12.5.1).
func prefersProto(accept []string) bool {
	var proto, json float64 // the weights
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		mediaType, parameters, _ := mime.ParseMediaType(part)
		weight, err := strconv.ParseFloat(cmp.Or(parameters["q"], "1"), 64)
		switch {
		case err != nil:
		case mediaType == "application/proto", mediaType == "application/x-protobuf":
			proto = max(proto, weight)
		case mediaType == "application/json":
			json = max(json, weight)
		}
	}
	return proto > 0 && proto >= json
}
