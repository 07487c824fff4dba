package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/stack"
	"holdline/services"
)

// withHeaders returns a context for one call with headers as "Key: value".
func withHeaders(ctx context.Context, headers ...string) (context.Context, *connect.CallInfo) {
	ctx, info := connect.NewClientContext(ctx)
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		info.RequestHeader().Set(key, value)
	}
	return ctx, info
}

// protocol is the wire's without codec and HTTP version.
func (w wire) protocol() string {
	name, _, _ := strings.Cut(w.name, "/")
	return strings.TrimSuffix(name, "-get")
}

// sum calls the sum service at a stack's gateway.
func (w wire) sum(ctx context.Context, tb testing.TB, s *stack.Stack, a, b float64) (*arithmeticv1.SumResponse, error) {
	tb.Helper()
	return arithmeticv1connect.NewSumServiceClient(w.client(tb, s.Gateway)).Sum(ctx, &arithmeticv1.SumRequest{A: a, B: b})
}

func sumURL(s *stack.Stack) string {
	return "http://" + s.Gateway + arithmeticv1connect.SumServiceSumProcedure
}

// startService starts a service that the stack was told to leave down.
func startService(tb testing.TB, s *stack.Stack, name string) {
	tb.Helper()
	svc, _ := services.Find(name)
	part, err := stack.NewService(svc, s.Service[name], testLog(tb))
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, part)
}

func taskService(tb testing.TB, addr string) momv1connect.TaskServiceClient {
	tb.Helper()
	return momv1connect.NewTaskServiceClient(wire{http2: true}.client(tb, addr))
}

// awaitTasks waits until so many tasks are in a state.
func awaitTasks(tb testing.TB, addr string, n int, state momv1.TaskState) {
	tb.Helper()
	tasks := everybodysTasks(tb, addr)
	eventually(tb, func() bool {
		res, err := tasks.ListTasks(tb.Context(), &momv1.ListTasksRequest{States: []momv1.TaskState{state}, PageSize: 1000})
		return err == nil && len(res.GetTasks()) == n
	}, "%d tasks are %v", n, state)
}

// awaitReady waits until a MOM takes tasks.
func awaitReady(tb testing.TB, mom string) {
	tb.Helper()
	eventually(tb, func() bool {
		req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "http://"+mom+"/grpc.health.v1.Health/Check", strings.NewReader("{}"))
		if err != nil {
			return false
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := plain.Do(req)
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		raw, _ := io.ReadAll(res.Body)
		return strings.Contains(string(raw), `"SERVING_STATUS_SERVING"`)
	}, "the MOM at %s is ready", mom)
}

// eventually polls until something is so. Nothing is asserted about how long it
// takes.
func eventually(tb testing.TB, so func() bool, format string, args ...any) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("not within a minute: "+format, args...)
		}
	}
}

// get reads from a gateway as curl does.
func get(tb testing.TB, addr, path string, headers ...string) (*http.Response, string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		tb.Fatal(err)
	}
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		req.Header.Set(key, value)
	}
	return do(tb, req)
}

// readAnswer reads /answer of a task and checks the status.
func readAnswer(tb testing.TB, addr, id string, status int, headers ...string) (body string) {
	tb.Helper()
	res, body := get(tb, addr, "/v1/tasks/"+id+"/answer", headers...)
	if res.StatusCode != status {
		tb.Errorf("answer of %s: got %d %s, want %d", id, res.StatusCode, body, status)
	}
	return body
}

// awaitState waits until a task is in a state, and returns it.
func awaitState(tb testing.TB, addr, id string, state momv1.TaskState) (task *momv1.Task) {
	tb.Helper()
	tasks := taskService(tb, addr)
	eventually(tb, func() bool {
		res, err := tasks.GetTask(tb.Context(), &momv1.GetTaskRequest{Id: id})
		task = res.GetTask()
		return err == nil && task.GetState() == state
	}, "task %s is %v", id, state)
	return task
}
