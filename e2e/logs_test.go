package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/redistest"
	"holdline/internal/stack"
	"holdline/services"
)

// jsonLines are what a process has logged as JSON.
type jsonLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *jsonLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// await waits for a line with a message and a service, or task, and returns its attributes.
func (l *jsonLines) await(t *testing.T, msg, about string) (attrs map[string]any) {
	t.Helper()
	eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for line := range strings.Lines(l.text.String()) {
			var one map[string]any
			if json.Unmarshal([]byte(line), &one) == nil && one["msg"] == msg && (one["service"] == about || one["task"] == about) {
				attrs = one
				return true
			}
		}
		return false
	}, "logged: %s", msg)
	return attrs
}

// wantText checks that an attribute is a text.
func wantText(t *testing.T, attrs map[string]any, key, want string) {
	t.Helper()
	if got, _ := attrs[key].(string); got != want {
		t.Errorf("%s = %v, want %q", key, attrs[key], want)
	}
}

// Gateway and MOM, as processes, tell an outage from its first call to its end, and who
// has cancelled a task; in JSON too, ids are texts and durations have units.
func TestLogsOfAnOutage(t *testing.T) {
	t.Parallel()
	ownSystem(t)
	const service = arithmeticv1connect.SumServiceName
	bin, momAddr, addr, sumAddr := build(t), freeport.Addr(t), freeport.Addr(t), freeport.Addr(t)
	var gatewayLog, momLog jsonLines
	common := []string{"--route", service + "=http://" + sumAddr, "--log-format", "json"}
	for _, p := range []*process{
		{args: append([]string{"mom", "--listen", momAddr, "--redis", redistest.New(t).URL()}, common...), log: &momLog},
		{args: append([]string{"gateway", "--listen", addr, "--mom", "http://" + momAddr}, common...), log: &gatewayLog},
	} {
		p.name = bin + "/holdline"
		p.begin(t)
	}
	awaitReady(t, momAddr)
	awaitReady(t, addr)
	url := "http://" + addr
	for range 6 {
		post(t, url+arithmeticv1connect.SumServiceSumProcedure, `{"a":1,"b":2}`, "Prefer: wait=0")
	}
	res, _ := post(t, url+arithmeticv1connect.SumServiceSumProcedure, `{"a":1,"b":2}`, "Prefer: respond-async")
	id := res.Header.Get(contract.HeaderTask)
	if res, body := post(t, url+"/mom.v1.TaskService/CancelTask", `{"id":"`+id+`"}`); res.StatusCode != http.StatusOK {
		t.Fatalf("cancel: %d %s", res.StatusCode, body)
	}
	cancelled := momLog.await(t, "task cancelled", id)
	wantText(t, cancelled, "forwarded_for", "127.0.0.1")
	for _, line := range []map[string]any{
		gatewayLog.await(t, "a service fails: its calls are handed off to the MOM", service),
		gatewayLog.await(t, "breaker open: calls are not tried until the service is healthy", service),
		momLog.await(t, "a service fails: its calls are stored", service),
	} {
		wantText(t, line, "level", "WARN")
		wantText(t, line, "cause", "dial-refused")
	}

	svc, _ := services.Find("sum")
	part, err := stack.NewService(svc, sumAddr, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	run(t, part)
	for _, line := range []map[string]any{
		gatewayLog.await(t, "the service is back", service),
		momLog.await(t, "the service is back: its stored calls are answered", service),
	} {
		text, _ := line["after"].(string)
		if d, err := time.ParseDuration(text); err != nil || d <= 0 {
			t.Errorf("after = %v, want a duration with its unit", line["after"])
		}
		if line["replayed"] != nil && line["replayed"] != 6.0 {
			t.Errorf("replayed = %v, want 6", line["replayed"])
		}
	}
}
