package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/stack"
)

// asyncSum stores a sum and returns the task's id.
func asyncSum(tb testing.TB, s *stack.Stack, headers ...string) (id string) {
	tb.Helper()
	res, body := post(tb, sumURL(s), `{"a": 1, "b": 2}`, append(headers, "Prefer: respond-async")...)
	id = res.Header.Get(contract.HeaderTask)
	if res.StatusCode != http.StatusAccepted || id == "" {
		tb.Fatalf("respond-async: got %d %s for task %q, want 202", res.StatusCode, body, id)
	}
	return id
}

// An answer is there to be read as often as its reader likes, until its time is
// over; then it is said that there was one.
func TestAnswerLives(t *testing.T) {
	t.Parallel()
	s := journey(t)
	id := asyncSum(t, s, "Holdline-Answer-Ttl: 10s")
	task := awaitState(t, s.Gateway, id, momv1.TaskState_TASK_STATE_SUCCEEDED)
	if kept := task.GetAnswerExpireTime().AsTime().Sub(task.GetEndTime().AsTime()); kept != 10*time.Second {
		t.Errorf("the answer is kept for %v, want 10s", kept)
	}
	raw, err := proto.Marshal(&arithmeticv1.SumResponse{Result: 3})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if got := readAnswer(t, s.Gateway, id, http.StatusOK); got != `{"result":3}` {
			t.Fatalf("answer = %s, want 3", got)
		}
		if got := readAnswer(t, s.Gateway, id, http.StatusOK, "Accept: application/proto"); got != string(raw) {
			t.Fatalf("answer = %q as proto, want %q", got, raw)
		}
	}
	eventually(t, func() bool {
		res, body := get(t, s.Gateway, "/v1/tasks/"+id+"/answer")
		if res.StatusCode == http.StatusOK {
			return false
		}
		checkError(t, s, id, http.StatusGone, momv1.Reason_REASON_ANSWER_EXPIRED)
		return strings.Contains(body, "not_found")
	}, "the answer has expired")
	awaitState(t, s.Gateway, id, momv1.TaskState_TASK_STATE_SUCCEEDED)
}

// What /answer says of tasks that have none.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Without: []string{"sum"}})
	t.Run("queued", func(t *testing.T) {
		t.Parallel()
		id := asyncSum(t, s)
		checkError(t, s, id, http.StatusAccepted, momv1.Reason_REASON_CALL_STORED)
		res, _ := get(t, s.Gateway, "/v1/tasks/"+id+"/answer")
		for key, want := range map[string]string{contract.HeaderTask: id, "Retry-After": "1", "Cache-Control": "no-store"} {
			if got := res.Header.Get(key); got != want {
				t.Errorf("%s = %q, want %q", key, got, want)
			}
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		id := asyncSum(t, s)
		res, err := taskService(t, s.Gateway).CancelTask(t.Context(), &momv1.CancelTaskRequest{Id: id})
		if err != nil || res.GetTask().GetState() != momv1.TaskState_TASK_STATE_CANCELLED {
			t.Fatalf("CancelTask: %v, %v", res, err)
		}
		checkError(t, s, id, 499, momv1.Reason_REASON_TASK_CANCELLED)
	})
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		id := asyncSum(t, s, "Holdline-Ttl: 1s")
		awaitState(t, s.Gateway, id, momv1.TaskState_TASK_STATE_EXPIRED)
		checkError(t, s, id, http.StatusGone, momv1.Reason_REASON_TASK_EXPIRED)
	})
	t.Run("held and expired", func(t *testing.T) {
		t.Parallel()
		res, body := post(t, sumURL(s), `{}`, "Holdline-Ttl: 1s", "Prefer: wait=60")
		if res.StatusCode != http.StatusGone || !strings.Contains(body, "TASK_EXPIRED") && !strings.Contains(body, "deadline_exceeded") {
			t.Errorf("got %d %s, want 410 TASK_EXPIRED", res.StatusCode, body)
		}
	})
	for name, id := range map[string]string{
		"unknown":    "arithmetic.v1.SumService.0.01JD3Z00000000000000000000",
		"no id":      "tomato",
		"no service": "tomato.v1.TomatoService.0.01JD3Z00000000000000000000",
		"no shard":   "arithmetic.v1.SumService.63.01JD3Z00000000000000000000",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkError(t, s, id, http.StatusNotFound, momv1.Reason_REASON_TASK_NOT_FOUND)
		})
	}
}

// checkError checks what /answer says of a task that has none.
func checkError(tb testing.TB, s *stack.Stack, id string, status int, reason momv1.Reason) {
	tb.Helper()
	body := readAnswer(tb, s.Gateway, id, status)
	if got := reasonIn(tb, body); got != contract.Name(reason) {
		tb.Errorf("answer of %s: %s says %q, want %s", id, body, got, contract.Name(reason))
	}
}

// What is below /v1/tasks and no task's is told so, as JSON and not as a page.
func TestNoTaskNamed(t *testing.T) {
	t.Parallel()
	s := journey(t)
	for _, path := range []string{"/v1/tasks", "/v1/tasks/", "/v1/tasks/x/y", "/v1/tasks/x/answer/", "/v1/tasks?client_id=7"} {
		res, body := get(t, s.Gateway, path)
		if res.StatusCode != http.StatusNotFound || res.Header.Get("Content-Type") != "application/json" ||
			res.Request.URL.String() != "http://"+s.Gateway+path || !strings.Contains(body, `"code":"not_found"`) {
			t.Errorf("%s: %s %s, want not_found in JSON", path, res.Status, body)
		}
		if res, body := post(t, "http://"+s.Gateway+path, "{}"); res.StatusCode != http.StatusNotFound || !strings.Contains(body, `"code":"not_found"`) {
			t.Errorf("POST %s: %s %s, want not_found in JSON", path, res.Status, body)
		}
	}
}
