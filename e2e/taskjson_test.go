package e2e

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// All that TaskService says of a task can be read as JSON, though the schema of its answer, and of a detail
// of its error, came with --schema alone; so can it with the client commands.
func TestTasksAsJSON(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	run(t, (&ledger{}).serve(t, addr))
	bin := build(t)
	for name, c := range map[string]struct {
		request string
		state   momv1.TaskState
		want    []string // of the answer
		wait    string   // what `task wait` prints
	}{
		"answer": {
			`{"amount": "41", "kind": "KIND_CREDIT"}`, momv1.TaskState_TASK_STATE_SUCCEEDED,
			[]string{`"message":{"@type":"type.googleapis.com/ledger.v1.Entry","amount":"42","kind":"KIND_CREDIT"}`},
			`{"amount":"42","kind":"KIND_CREDIT"}`,
		},
		"error": {
			`{"amount": "41", "refuse": true}`, momv1.TaskState_TASK_STATE_FAILED,
			[]string{`"code":9`, `"@type":"type.googleapis.com/google.rpc.PreconditionFailure"`, `"@type":"type.googleapis.com/ledger.v1.Entry","amount":"41","refuse":true`},
			"failed_precondition",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, body := post(t, "http://"+s.Gateway+"/"+ledgerService+"/Post", c.request, "Prefer: respond-async")
			id := res.Header.Get(contract.HeaderTask)
			if res.StatusCode != http.StatusAccepted {
				t.Fatalf("got %d %s, want 202", res.StatusCode, body)
			}
			awaitState(t, s.Gateway, id, c.state)
			check := func(what, body string, want ...string) {
				t.Helper()
				for _, want := range append(want, id, c.state.String()) {
					if !strings.Contains(strings.ReplaceAll(body, " ", ""), want) { // protojson varies its spaces
						t.Errorf("%s: %s, want %s", what, body, want)
					}
				}
			}
			for _, at := range []string{s.Gateway, s.MOM} {
				for _, procedure := range []string{momv1connect.TaskServiceGetTaskProcedure, momv1connect.TaskServiceWaitTaskProcedure} {
					_, body := post(t, "http://"+at+procedure, `{"id": "`+id+`"}`)
					check(procedure, body, c.want...)
					for _, protocol := range []string{"application/grpc+json", "application/grpc-web+json"} {
						check(procedure+" as "+protocol, sendEnveloped(t, "http://"+at+procedure, protocol, `{"id": "`+id+`"}`), c.want...)
					}
				}
				_, body := get(t, at, momv1connect.TaskServiceGetTaskProcedure+"?connect=v1&encoding=json&message="+url.QueryEscape(`{"id":"`+id+`"}`))
				check("GET of GetTask", body, c.want...)
				_, body = post(t, "http://"+s.Admin+momv1connect.TaskServiceListTasksProcedure, `{}`)
				check("ListTasks", body)
				check("WatchTasks", sendEnveloped(t, "http://"+at+momv1connect.TaskServiceWatchTasksProcedure, "application/connect+json", `{"ids": ["`+id+`"]}`))
			}
			holdline := func(args ...string) string {
				cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "holdline"), args...)
				cmd.Env = append(os.Environ(), "HOLDLINE_SERVER=http://"+s.Gateway, "HOLDLINE_ADMIN="+s.Admin)
				out, _ := cmd.CombinedOutput() // a failed task is an exit status
				return string(out)
			}
			check("task get --json", holdline("task", "get", id, "--json"))
			check("task list --json", holdline("task", "list", "--json"))
			for _, flags := range [][]string{nil, {"--json"}} {
				if got := holdline(append([]string{"task", "wait", id}, flags...)...); !strings.Contains(strings.ReplaceAll(got, " ", ""), c.wait) {
					t.Errorf("task wait %v: %s, want %s", flags, got, c.wait)
				}
			}
		})
	}
}

// sendEnveloped sends a message in its envelope over HTTP/2, and returns all that comes back.
func sendEnveloped(tb testing.TB, url, contentType, message string) string {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, url, strings.NewReader(enveloped(0, message)))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Te", "trailers")
	client := &http.Client{Transport: wire{http2: true}.transport(tb)}
	res, err := client.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}
