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
)

// The answer is read when the gateway that told the end of its task is replaced. Out of time it is looked for once.
func TestAnswerIsReadAgain(t *testing.T) {
	t.Parallel()
	soon := 10 * time.Millisecond
	for name, test := range map[string]struct {
		state momv1.TaskState
		limit *time.Duration
		reads int32
		code  connect.Code
	}{
		"ended":       {momv1.TaskState_TASK_STATE_SUCCEEDED, nil, 3, 0},
		"out of time": {momv1.TaskState_TASK_STATE_QUEUED, &soon, 1, connect.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var reads atomic.Int32
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if path.Base(r.URL.Path) == "answer" {
					if reads.Add(1) < 3 {
						panic(http.ErrAbortHandler)
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
