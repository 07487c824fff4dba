package e2e

import (
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/internal/redistest"
)

// send makes a request from the machine, with headers as "Key: value".
func (m machine) send(tb testing.TB, url, body string, headers ...string) (status int, said string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		if key == "Host" {
			req.Host = value
		}
		req.Header.Set(key, value)
	}
	if body == "" {
		req.Method = http.MethodGet
	}
	res, err := (&http.Client{Transport: m.transport()}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

// awaitUp waits until a server on the machine takes tasks.
func (m machine) awaitUp(tb testing.TB, addr, service string) {
	tb.Helper()
	eventually(tb, func() bool {
		_, said := m.send(tb, "http://"+addr+"/grpc.health.v1.Health/Check", `{"service": "`+service+`"}`)
		return strings.Contains(said, "SERVING_STATUS_SERVING")
	}, "%s is ready at %s", service, addr)
}

// proxy is a reverse proxy on the machine, to another server there. It says for whom it asks.
func (m machine) proxy(tb testing.TB, to string) (addr string) {
	tb.Helper()
	ln := m.listen(tb, m.at("0"))
	passing := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})
	passing.Transport = m.transport()
	server := &http.Server{Handler: passing, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	tb.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return ln.Addr().String()
}

// refused tells whether nobody listens at an address, as the machine sees it.
func (m machine) refused(tb testing.TB, addr string) bool {
	tb.Helper()
	conn, err := m.dial(tb.Context(), "tcp", addr)
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

const (
	sumProcedure = "/arithmetic.v1.SumService/Sum"
	sumQueue     = `{"service": "arithmetic.v1.SumService"}`
)

// forgeries are headers by which a stranger may want to pass for an operator.
var forgeries = [][]string{
	nil,
	{"X-Forwarded-For: 127.0.0.1"},
	{"Forwarded: for=127.0.0.1"},
	{"Host: 127.0.0.1:9464"},
	{"Host: localhost"},
	{"Holdline-Operator: 127.0.0.1"},
	{"Holdline-Secret: guess", "Holdline-Operator: 127.0.0.1"},
	{"Origin: http://127.0.0.1:9464", "Host: 127.0.0.1:9464"},
}

// Nobody on another machine steers the queues of `holdline up`, or lists its tasks, though it
// lets everybody call: neither at the callers' port, nor through a reverse proxy on the same
// machine. Pages in a browser there do not either. Its operators do.
func TestStrangersOfUp(t *testing.T) {
	t.Parallel()
	ours, strangers := machines(t)
	bin := build(t)
	ours.start(t, bin, "up", "--listen", "0.0.0.0:8080", "--without", "sum", "--state", filepath.Join(t.TempDir(), "state"))
	gateway := ours.at("8080")
	strangers.awaitUp(t, gateway, "mom.v1.TaskService")
	status, said := strangers.send(t, "http://"+gateway+sumProcedure, `{"a": 1}`, "Prefer: respond-async")
	if status != http.StatusAccepted {
		t.Fatalf("a call: %d %s, want it stored", status, said)
	}
	for _, port := range []string{"8090", "9464"} { // MOM, admin
		if !strangers.refused(t, ours.at(port)) {
			t.Errorf("others reach port %s", port)
		}
	}
	passing := ours.proxy(t, "127.0.0.1:8080")
	for path, body := range map[string]string{
		"/mom.v1.QueueService/PauseQueue": sumQueue,
		"/mom.v1.QueueService/ListQueues": `{}`,
		"/mom.v1.QueueService/RetryDead":  sumQueue,
		"/mom.v1.TaskService/ListTasks":   `{}`,
	} {
		for _, headers := range forgeries {
			for _, door := range []string{gateway, passing} {
				status, said := strangers.send(t, "http://"+door+path, body, headers...)
				if status != http.StatusForbidden || reasonIn(t, said) != "OPERATORS_ONLY" || !strings.Contains(said, "docker exec") {
					t.Errorf("%s at %s with %q: %d %s, want 403 OPERATORS_ONLY, and how to do it", path, door, headers, status, said)
				}
			}
		}
		// Pages, and those who come through a proxy, at the admin listener itself.
		admin := ours.proxy(t, "127.0.0.1:9464")
		if status, said := strangers.send(t, "http://"+admin+path, body); status != http.StatusForbidden {
			t.Errorf("%s through a proxy: %d %s, want 403", path, status, said)
		}
		for _, page := range [][]string{
			{"Origin: https://page.example"}, {"Origin: http://127.0.0.1:8080"}, {"Origin: null"},
			{"Host: page.example:9464", "Origin: http://page.example:9464"}, {"Sec-Fetch-Site: cross-site"},
		} {
			if status, said := ours.send(t, "http://127.0.0.1:9464"+path, body, page...); status != http.StatusForbidden {
				t.Errorf("%s from a page, %q: %d %s, want 403", path, page, status, said)
			}
		}
	}
	if said, status := strangers.run(t, bin, "queue", "pause", "arithmetic.v1.SumService", "--server", "http://"+gateway); status != 7<<3 || !strings.Contains(said, "docker exec") {
		t.Errorf("queue pause from elsewhere: exit status %d, %s; want permission_denied and how to do it", status, said)
	}
	if said, status := ours.run(t, bin, "queue", "list"); status != 0 || strings.Contains(said, "paused") {
		t.Errorf("queue list: exit status %d, %s; want queues, none of them paused", status, said)
	}
	if said, status := ours.run(t, bin, "task", "list"); status != 0 || !strings.Contains(said, "arithmetic.v1.SumService.0.") {
		t.Errorf("task list: exit status %d, %s; want the task", status, said)
	}
}

// A MOM that was not told where to listen is reached from its machine alone. One that listens
// to others, and has a secret, tells strangers that it is there, and nothing else; they store
// nothing, read nothing and cancel nothing.
func TestStrangersOfTheMOM(t *testing.T) {
	t.Parallel()
	ours, strangers := machines(t)
	bin, redis := build(t), redistest.New(t)
	flags := []string{"mom", "--redis", redis.URL(), "--route", "arithmetic.v1.SumService=http://127.0.0.1:1"}
	ours.start(t, bin, flags...)
	const local = "127.0.0.1:8090"
	ours.awaitUp(t, local, "")
	if !strangers.refused(t, ours.at("8090")) {
		t.Error("a MOM that was not told so listens to other machines")
	}
	passing := ours.proxy(t, local)
	if status, said := strangers.send(t, "http://"+passing+"/mom.v1.QueueService/PauseQueue", sumQueue, "Holdline-Operator: 127.0.0.1"); status != http.StatusForbidden {
		t.Errorf("an operator through a proxy: %d %s, want 403", status, said)
	}
	if status, said := ours.send(t, "http://"+local+"/mom.v1.QueueService/PauseQueue", sumQueue); status != http.StatusForbidden {
		t.Errorf("somebody on this machine at the gateways' port: %d %s, want 403", status, said)
	}

	mom := ours.at("8091")
	ours.start(t, bin, append(flags, "--listen", mom, "--mom-secret-file", secretFile(t, filepath.Join(t.TempDir(), "secret"), "the-secret"))...)
	strangers.awaitUp(t, mom, "")
	const known = "Holdline-Secret: the-secret"
	id := contract.NewTaskID("arithmetic.v1.SumService", 1, "", "", "").String()
	ask := []string{"Prefer: respond-async", "Holdline-Caller: anonymous", "Holdline-Task: "}
	if status, said := ours.send(t, "http://"+mom+sumProcedure, `{"a": 1}`, known, ask[0], ask[1], ask[2]+id); status != http.StatusAccepted {
		t.Fatalf("who shows the secret: %d %s, want the call stored", status, said)
	}
	stored := redis.Ask(t, "DBSIZE")
	forged := contract.NewTaskID("arithmetic.v1.SumService", 1, "", "", "").String()
	for path, body := range map[string]string{
		sumProcedure:                       `{"a": 2}`,
		"/mom.v1.HoldService/AbandonTasks": `{"ids": ["` + id + `"]}`,
		"/mom.v1.HoldService/ListRoutes":   `{}`,
		"/mom.v1.TaskService/GetTask":      `{"id": "` + id + `"}`,
		"/mom.v1.TaskService/CancelTask":   `{"id": "` + id + `"}`,
		"/mom.v1.TaskService/ListTasks":    `{}`,
		"/mom.v1.QueueService/PauseQueue":  sumQueue,
		"/v1/tasks/" + id:                  ``,
		"/v1/tasks/" + id + "/answer":      ``,
	} {
		for _, headers := range append(forgeries, []string{"Holdline-Secret: "}, []string{"Holdline-Secret: the-secret2"}, []string{"Authorization: the-secret"}) {
			headers := append(headers[:len(headers):len(headers)], ask[0], ask[1], ask[2]+forged)
			if status, said := strangers.send(t, "http://"+mom+path, body, headers...); status != http.StatusUnauthorized {
				t.Errorf("%s with %q: %d %s, want 401", path, headers, status, said)
			}
		}
	}
	if now := redis.Ask(t, "DBSIZE"); now != stored {
		t.Errorf("the store has %s keys, had %s: strangers have stored something", now, stored)
	}
	if status, said := ours.send(t, "http://"+mom+"/v1/tasks/"+id, "", known); status != http.StatusOK || !strings.Contains(said, "TASK_STATE_QUEUED") {
		t.Errorf("the task: %d %s, want it queued", status, said)
	}
}

// An admin listener that others may reach takes those who speak to it, and not what somebody
// else sends through them.
func TestStrangersOfAnAdminListener(t *testing.T) {
	t.Parallel()
	ours, strangers := machines(t)
	bin, redis := build(t), redistest.New(t)
	route := []string{"--route", "arithmetic.v1.SumService=http://127.0.0.1:1"}
	ours.start(t, bin, append(route[:0:0], append([]string{"mom", "--redis", redis.URL(), "--admin", "127.0.0.1:9465"}, route...)...)...)
	ours.start(t, bin, append([]string{"gateway", "--listen", ours.at("8080"), "--mom", "http://127.0.0.1:8090", "--admin", ours.at("9464")}, route...)...)
	strangers.awaitUp(t, ours.at("8080"), "mom.v1.TaskService")
	admin := ours.at("9464")
	for _, c := range []struct {
		name    string
		headers []string
		want    int
	}{
		{"an operator", nil, http.StatusOK},
		{"an operator's tunnel", []string{"Host: localhost:1234"}, http.StatusOK},
		{"its own page", []string{"Origin: http://" + admin, "Sec-Fetch-Site: same-origin"}, http.StatusOK},
		{"a name for it", []string{"Host: admin.example"}, http.StatusForbidden},
		{"another page", []string{"Origin: http://" + ours.at("8080")}, http.StatusForbidden},
		{"a proxy", []string{"Via: 1.1 proxy"}, http.StatusForbidden},
		{"a proxy of another kind", []string{"X-Real-Ip: 10.0.0.1"}, http.StatusForbidden},
	} {
		for path, body := range map[string]string{"/mom.v1.QueueService/PauseQueue": sumQueue, "/mom.v1.TaskService/ListTasks": `{}`, "/metrics": "", "/debug/pprof/cmdline": ""} {
			if status, said := strangers.send(t, "http://"+admin+path, body, c.headers...); status != c.want {
				t.Errorf("%s at %s: %d %s, want %d", c.name, path, status, said, c.want)
			}
		}
	}
	if status, said := strangers.send(t, "http://"+admin+sumProcedure, `{}`); status != http.StatusNotFound {
		t.Errorf("a call at the admin listener: %d %s, want 404", status, said)
	}
	for _, listener := range []string{admin, "127.0.0.1:9465"} { // of the gateway, of the MOM
		if said, status := ours.run(t, bin, "queue", "list", "--admin", listener); status != 0 || !strings.Contains(said, "paused") {
			t.Errorf("queue list at %s: exit status %d, %s; want the paused queue", listener, status, said)
		}
	}
}
