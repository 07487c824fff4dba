package mom_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
	"holdline/mom"
)

const (
	queued    = momv1.TaskState_TASK_STATE_QUEUED
	succeeded = momv1.TaskState_TASK_STATE_SUCCEEDED
	cancelled = momv1.TaskState_TASK_STATE_CANCELLED
	dead      = momv1.TaskState_TASK_STATE_DEAD
	uncertain = momv1.TaskState_TASK_STATE_UNCERTAIN
)

func (w *told) tasks() momv1connect.TaskServiceClient {
	return momv1connect.NewTaskServiceClient(w.rpc)
}

// id reads the id of a task that handOff has named.
func (w *told) id(task string) contract.TaskID {
	w.t.Helper()
	id, err := contract.ParseTaskID(task)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// again repeats a request for as long as the store cannot be reached, which a busy machine may bring about.
func again[T any](t *testing.T, ask func(context.Context) (T, error)) (T, error) {
	t.Helper()
	for {
		res, err := ask(t.Context())
		if contract.ReasonOf(err) != momv1.Reason_REASON_STORE_UNAVAILABLE {
			return res, err
		}
	}
}

// park makes the oldest task DEAD or UNCERTAIN by hand, while nobody else leases.
func (w *told) park(state momv1.TaskState) {
	w.t.Helper()
	ctx, shard := w.t.Context(), mom.Shard{Service: sumService}
	leases, _, err := w.store.Lease(ctx, shard, mom.Room{Tasks: 1, Again: 1, Once: 1}, mom.LongestLease)
	if err != nil || len(leases) != 1 {
		w.t.Fatalf("lease: %v, %v, want one", leases, err)
	}
	if err := w.store.MarkSent(ctx, leases[0]); err != nil {
		w.t.Fatal(err)
	}
	if state == dead {
		if _, err := w.store.Spend(ctx, leases[0], "reset", 0, 1); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	if err := w.store.Park(ctx, leases[0], "reset"); err != nil {
		w.t.Fatal(err)
	}
}

// A task is told of from the moment that it is stored, and its answer from the moment that there is one.
func TestTasksAreRead(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	id := w.handOff("Holdline-Cause: dns")
	res, err := again(t, func(ctx context.Context) (*momv1.GetTaskResponse, error) {
		return w.tasks().GetTask(ctx, &momv1.GetTaskRequest{Id: id})
	})
	if err != nil {
		t.Fatal(err)
	}
	if task := res.GetTask(); task.GetState() != queued || task.GetCause() != "dns" || task.GetId() != id || res.GetAnswer() != nil {
		t.Errorf("got %v, want it queued for dns, without an answer", res)
	}
	wait, err := w.tasks().WaitTask(t.Context(), &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(time.Millisecond)})
	if err != nil || wait.GetTask().GetState() != queued {
		t.Errorf("a wait in vain: got %v, %v, want the task as it is", wait, err)
	}
	waited := make(chan *momv1.WaitTaskResponse, 1)
	go func() {
		res, err := w.tasks().WaitTask(t.Context(), &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(time.Minute)})
		if err != nil {
			t.Errorf("wait: %v", err)
		}
		waited <- res
	}()
	w.begin()
	wait = <-waited
	message := new(arithmeticv1.SumResponse)
	if err := wait.GetAnswer().GetMessage().UnmarshalTo(message); err != nil || message.GetResult() != 3 || wait.GetTask().GetState() != succeeded {
		t.Errorf("waited for: got %v, %v, want 3", wait, err)
	}
	for name, id := range map[string]string{"no task": newID().String(), "no id": "17"} {
		if _, err := w.tasks().GetTask(t.Context(), &momv1.GetTaskRequest{Id: id}); contract.ReasonOf(err) != momv1.Reason_REASON_TASK_NOT_FOUND {
			t.Errorf("%s: got %v, want TASK_NOT_FOUND", name, err)
		}
		if _, err := w.tasks().WaitTask(t.Context(), &momv1.WaitTaskRequest{Id: id}); contract.ReasonOf(err) != momv1.Reason_REASON_TASK_NOT_FOUND {
			t.Errorf("%s waited for: got %v, want TASK_NOT_FOUND", name, err)
		}
	}
}

// Tasks are listed from the newest to the oldest, page by page, each once.
func TestTasksAreListed(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	var want []string
	for range 5 {
		want = append(want, w.handOff())
		for then := ulid.Now(); ulid.Now() == then; { // ids of one millisecond are in no order
			runtime.Gosched()
		}
	}
	slices.Reverse(want)
	list := func(req *momv1.ListTasksRequest) *momv1.ListTasksResponse {
		t.Helper()
		res, err := again(t, func(ctx context.Context) (*momv1.ListTasksResponse, error) {
			return w.tasks().ListTasks(asOperator(ctx), req)
		})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	var got []string
	for page := ""; ; {
		res := list(&momv1.ListTasksRequest{PageSize: 2, PageToken: page, Service: sumService})
		if len(res.GetTasks()) > 2 {
			t.Fatalf("a page of %d tasks, want 2 at most", len(res.GetTasks()))
		}
		for _, task := range res.GetTasks() {
			got = append(got, task.GetId())
		}
		if page = res.GetNextPageToken(); page == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := w.tasks().CancelTask(t.Context(), &momv1.CancelTaskRequest{Id: want[0]}); err != nil {
		t.Fatal(err)
	}
	if res := list(&momv1.ListTasksRequest{States: []momv1.TaskState{cancelled}}); len(res.GetTasks()) != 1 || res.GetTasks()[0].GetId() != want[0] {
		t.Errorf("cancelled ones: got %v, want %s alone", res.GetTasks(), want[0])
	}
	_, err := w.tasks().ListTasks(asOperator(t.Context()), &momv1.ListTasksRequest{PageSize: -1})
	if connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a page of less than nothing: got %v, want invalid_argument", err)
	}
	_, err = w.tasks().ListTasks(asOperator(t.Context()), &momv1.ListTasksRequest{Service: "nobody.v1.Service"})
	if contract.ReasonOf(err) != momv1.Reason_REASON_NO_ROUTE {
		t.Errorf("of a service that nobody knows: got %v, want NO_ROUTE", err)
	}
}

// What may be done to a task depends on its state; nothing else may, and whoever tries is told why.
func TestTasksAreChanged(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	change := map[string]func(context.Context, string) (*momv1.Task, error){
		"cancel": func(ctx context.Context, id string) (*momv1.Task, error) {
			res, err := w.tasks().CancelTask(ctx, &momv1.CancelTaskRequest{Id: id})
			return res.GetTask(), err
		},
		"retry": func(ctx context.Context, id string) (*momv1.Task, error) {
			res, err := w.tasks().RetryTask(ctx, &momv1.RetryTaskRequest{Id: id})
			return res.GetTask(), err
		},
		"dismiss": func(ctx context.Context, id string) (*momv1.Task, error) {
			res, err := w.tasks().DismissTask(ctx, &momv1.DismissTaskRequest{Id: id})
			return res.GetTask(), err
		},
	}
	no := momv1.TaskState_TASK_STATE_UNSPECIFIED
	for _, c := range []struct {
		from momv1.TaskState
		verb string
		want momv1.TaskState // no: it is refused
	}{
		{queued, "cancel", cancelled}, {queued, "retry", no}, {queued, "dismiss", no},
		{dead, "cancel", dead}, {dead, "retry", queued}, {dead, "dismiss", dead},
		{uncertain, "retry", queued}, {uncertain, "dismiss", uncertain},
	} {
		name := c.verb + " " + contract.StateName(c.from)
		id := w.handOff()
		if c.from != queued {
			w.park(c.from)
		}
		task, err := again(t, func(ctx context.Context) (*momv1.Task, error) { return change[c.verb](ctx, id) })
		switch {
		case c.want == no:
			if contract.ReasonOf(err) != momv1.Reason_REASON_TASK_STATE {
				t.Errorf("%s: got %v, want TASK_STATE", name, err)
			}
		case err != nil || task.GetState() != c.want || task.GetId() != id:
			t.Errorf("%s: got %v, %v, want it %v", name, task, err, c.want)
		case c.verb != "retry" && c.from != queued:
			if task.GetDismissTime() == nil {
				t.Errorf("%s: got %v, want it dismissed", name, task)
			}
			if _, err := change["retry"](t.Context(), id); contract.ReasonOf(err) != momv1.Reason_REASON_TASK_STATE || !strings.Contains(err.Error(), "no longer kept") {
				t.Errorf("%s, then retry: got %v, want to hear that the call is no longer kept", name, err)
			}
		}
		_, _ = change["cancel"](t.Context(), id) // out of the way of the next
	}
	for verb, do := range change {
		if _, err := do(t.Context(), newID().String()); contract.ReasonOf(err) != momv1.Reason_REASON_TASK_NOT_FOUND {
			t.Errorf("%s of no task: got %v, want TASK_NOT_FOUND", verb, err)
		}
	}
}

// Whoever watches tasks is told their states as they are, each change, and no more once all have ended.
func TestTasksAreWatched(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	first, second := w.handOff(), w.handOff()
	stream, err := w.tasks().WatchTasks(t.Context(), &momv1.WatchTasksRequest{Ids: []string{first, second}})
	if err != nil {
		t.Fatal(err)
	}
	next := func() *momv1.Task {
		t.Helper()
		res, err := stream.Receive()
		if err != nil {
			t.Fatal(err)
		}
		return res.GetTask()
	}
	if a, b := next(), next(); a.GetState() != queued || b.GetState() != queued || a.GetId() == b.GetId() {
		t.Errorf("got %v and %v, want both tasks as they are", a, b)
	}
	for _, id := range []string{first, second} {
		if _, err := w.tasks().CancelTask(t.Context(), &momv1.CancelTaskRequest{Id: id}); err != nil {
			t.Fatal(err)
		}
		if task := next(); task.GetId() != id || task.GetState() != cancelled {
			t.Errorf("got %v, want %s cancelled", task, id)
		}
	}
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after all have ended: got %v, want the end", err)
	}
	for name, ids := range map[string][]string{"none": nil, "too many": slices.Repeat([]string{first}, 101), "no task": {newID().String()}, "no id": {"17"}} {
		stream, err := w.tasks().WatchTasks(t.Context(), &momv1.WatchTasksRequest{Ids: ids})
		if err == nil {
			_, err = stream.Receive()
		}
		if code := connect.CodeOf(err); code != connect.CodeInvalidArgument && code != connect.CodeNotFound {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
}

// A MOM that goes away sends nobody away without a word.
func TestWaitersAreToldOfADrain(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	id := w.handOff()
	stream, err := w.tasks().WatchTasks(t.Context(), &momv1.WatchTasksRequest{Ids: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Receive(); err != nil {
		t.Fatal(err)
	}
	waited := make(chan *momv1.WaitTaskResponse, 1)
	go func() {
		res, err := w.tasks().WaitTask(t.Context(), &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(time.Hour)})
		if err != nil {
			t.Errorf("wait: %v", err)
		}
		waited <- res
	}()
	w.mom.Drain()
	w.mom.Drain()
	if _, err := stream.Receive(); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("who watches: got %v, want unavailable", err)
	}
	if res := <-waited; res.GetTask().GetState() != queued {
		t.Errorf("who waits: got %v, want the task as it is", res)
	}
}

// Tasks and their answers can be read without RPC: as JSON, answers as proto too.
func TestTasksOverHTTP(t *testing.T) {
	t.Parallel()
	w := newTold(t)
	get := func(path, accept string) (status int, header http.Header, body string) {
		t.Helper()
		for {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.base+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", accept)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != http.StatusServiceUnavailable { // a busy machine
				return res.StatusCode, res.Header, string(raw)
			}
		}
	}
	id := w.handOff()
	path := "/v1/tasks/" + id
	status, header, body := get(path, "")
	var task struct{ ID, State string }
	if err := json.Unmarshal([]byte(body), &task); err != nil || status != 200 || task.ID != id || task.State != "TASK_STATE_QUEUED" || header.Get(contract.HeaderTask) != id {
		t.Errorf("a task: got %d, %v, %s, %v", status, header, body, err)
	}
	if status, header, body = get(path+"/answer", ""); status != 202 || header.Get("Location") != path || header.Get("Retry-After") == "" || !strings.Contains(body, "CALL_STORED") {
		t.Errorf("an answer that is not there yet: got %d, %v, %s", status, header, body)
	}
	w.begin()
	if _, err := w.tasks().WaitTask(t.Context(), &momv1.WaitTaskRequest{Id: id, Wait: durationpb.New(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if status, header, body = get(path+"/answer", "*/*"); status != 200 || body != `{"result":3}` || header.Get("Content-Type") != "application/json" || header.Get("Cache-Control") != "no-store" {
		t.Errorf("an answer: got %d, %v, %s", status, header, body)
	}
	if status, header, body = get(path+"/answer", "application/proto"); status != 200 || header.Get("Content-Type") != "application/proto" || body == "" || body[0] == '{' {
		t.Errorf("an answer as proto: got %d, %v, %q", status, header, body)
	}
	for _, path := range []string{"/v1/tasks/17", "/v1/tasks/" + newID().String(), "/v1/tasks/17/answer"} {
		if status, _, body = get(path, ""); status != 404 || !strings.Contains(body, "TASK_NOT_FOUND") {
			t.Errorf("%s: got %d, %s, want 404", path, status, body)
		}
	}
}
