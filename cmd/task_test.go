package cmd

import (
	"bytes"
	"net/http"
	"path"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// The answer is read when the gateway that told the end of its task is replaced. Out of time it is looked for once.
func TestAnswerIsReadAgain(t *testing.T) {
	t.Parallel()
	soon := 10 * time.Millisecond
	for name, test := range map[string]struct {
		state  momv1.TaskState
		limit  *time.Duration
		broken bool
		reads  int32
		code   connect.Code
	}{
		"ended":       {state: momv1.TaskState_TASK_STATE_SUCCEEDED, reads: 3},
		"failed":      {state: momv1.TaskState_TASK_STATE_FAILED, broken: true, reads: 3, code: connect.CodeUnavailable},
		"out of time": {state: momv1.TaskState_TASK_STATE_QUEUED, limit: &soon, reads: 1, code: connect.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var reads atomic.Int32
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if path.Base(r.URL.Path) == "answer" {
					switch reads.Add(1) {
					case 1:
						panic(http.ErrAbortHandler)
					case 2: // of a proxy between
						w.WriteHeader(http.StatusBadGateway)
						return
					}
					if test.broken {
						w.Header().Set(contract.HeaderTask, "01")
						w.WriteHeader(http.StatusServiceUnavailable)
						_, _ = w.Write([]byte(`{"code":"unavailable","message":"the service says so"}`))
						return
					}
					_, _ = w.Write([]byte(`{"result":3}`))
					return
				}
				raw, _ := proto.Marshal(&momv1.WaitTaskResponse{Task: &momv1.Task{State: test.state}}) // GetTaskResponse has the same fields
				w.Header().Set("Content-Type", "application/proto")
				_, _ = w.Write(raw)
			})
			remote := Remote{Server: server}
			var out bytes.Buffer
			err := (&TaskWait{Wait: test.limit, OneTask: OneTask{ID: "01", Remote: remote}}).Run(t.Context(), &out)
			if (err != nil || test.code != 0) && connect.CodeOf(err) != test.code {
				t.Errorf("err %v, want code %v", err, test.code)
			}
			if n := reads.Load(); n != test.reads {
				t.Errorf("read %d times, want %d", n, test.reads)
			}
		})
	}
}
