package cmd

import (
	"bytes"
	"cmp"
	"net/http"
	"path"
	"strings"
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

// The command that waits for a task again asks the same gateway, when it is run as it is printed.
func TestCommandThatWaitsAgain(t *testing.T) {
	for name, test := range map[string]struct {
		server, ca     string // of the command line
		variable, file string
		want           string
	}{
		"default":               {want: "wait 01"},
		"flag":                  {server: "gateway.example:8080", want: "wait 01 --server http://gateway.example:8080"},
		"flag that is default":  {server: "127.0.0.1:8080", want: "wait 01"},
		"variable":              {variable: "gateway.example:8080", want: "wait 01"},
		"flag and its variable": {server: "http://127.0.0.1:8080", variable: "gateway.example:8080", want: "wait 01 --server http://127.0.0.1:8080"},
		"authority":             {server: "https://gateway.example", ca: "/its ca.pem", want: "wait 01 --server https://gateway.example --cacert '/its ca.pem'"},
		"authority's variable":  {server: "https://gateway.example", ca: "/ca.pem", file: "/ca.pem", want: "wait 01 --server https://gateway.example"},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range map[string]string{"HOLDLINE_SERVER": test.variable, "HOLDLINE_CACERT": test.file} {
				t.Setenv(key, value)
			}
			remote := Remote{Server: cmp.Or(test.server, test.variable, "127.0.0.1:8080")}
			if err := remote.AfterApply(); err != nil {
				t.Fatal(err)
			}
			remote.CACert = test.ca
			var said strings.Builder
			printError(&said, remote.goesOn(&momv1.TaskHandle{Id: "01"}), nil, false)
			if !strings.HasSuffix(said.String(), "the task goes on: holdline task "+test.want+"\n") {
				t.Errorf("got %s, want it to end with %q", said.String(), test.want)
			}
		})
	}
}
