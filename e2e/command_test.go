package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// printed is what a command has printed, and its exit status.
type printed struct {
	stdout, stderr string
	status         int
}

// command prepares a client command of the binary; env is "NAME=value".
func command(t *testing.T, server string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(build(t), "holdline"), args...)
	cmd.Env = append(os.Environ(), "HOLDLINE_SERVER="+server)
	if admin, ok := admins.Load(server); ok {
		cmd.Env = append(cmd.Env, "HOLDLINE_ADMIN="+admin.(string))
	}
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// holdline runs a client command to its end.
func holdline(t *testing.T, server string, args ...string) printed {
	t.Helper()
	return end(t, command(t, server, nil, args...))
}

func end(t *testing.T, cmd *exec.Cmd) printed {
	t.Helper()
	return begin(t, cmd)()
}

// begin starts a command, and returns how to wait for its end.
func begin(t *testing.T, cmd *exec.Cmd) (wait func() printed) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() printed {
		_ = cmd.Wait() // its exit status is a part of what it says
		return printed{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	}
}

const sum = "arithmetic.v1.SumService/Sum"

// The flags of a call are its headers, and nothing else is: what belongs to one call
// has no twin in the environment.
func TestCallFlags(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Without: []string{"sum"}})
	var mu sync.Mutex
	var sent http.Header
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.Gateway})
	proxy.Transport = wire{http2: true}.transport(t)
	proxy.FlushInterval = -1
	recorder := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/"+sum {
			mu.Lock()
			sent = r.Header.Clone()
			mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	}))
	recorder.Config.Protocols = new(http.Protocols)
	recorder.Config.Protocols.SetUnencryptedHTTP2(true)
	recorder.Start()
	defer recorder.Close()

	env := []string{"HOLDLINE_KEY=forgotten", "HOLDLINE_WAIT=9m", `HOLDLINE_DATA={"a": 7}`, "HOLDLINE_ASYNC=true", "HOLDLINE_PROTOCOL=grpc", "HOLDLINE_STATE=/tmp", "HOLDLINE_TTL=1s"}
	got := end(t, command(t, recorder.URL, env, "call", sum, "--wait", "0s", "--ttl", "1m", "--explain", "-H", "X-Colour: blue, green", "-H", "x-colour:red"))
	if got.status != 32 || !strings.Contains(got.stderr, "the task goes on: holdline task wait arithmetic.v1.SumService.") || !strings.Contains(got.stderr, "decision: direct;try=") {
		t.Errorf("got %+v, want a handle, and what was done", got)
	}
	mu.Lock()
	defer mu.Unlock()
	for key, want := range map[string][]string{
		contract.HeaderPrefer: {"wait=0"}, contract.HeaderTTL: {"1m0s"}, contract.HeaderExplain: {"1"},
		"X-Colour": {"blue, green", "red"}, contract.HeaderKey: nil, "Content-Type": {"application/proto"},
	} {
		if !slices.Equal(sent[key], want) {
			t.Errorf("%s: %q, want %q", key, sent[key], want)
		}
	}

	id := regexp.MustCompile(`task wait (\S+)`).FindStringSubmatch(got.stderr)[1]
	for _, args := range [][]string{{"task", "wait", id, "--wait", "0"}, {"call", sum, "--key", "k", "--wait", "0s"}, {"call", sum, "--key", "k", "--wait", "1ms"}} {
		if got := holdline(t, s.Gateway, args...); got.status != 32 || !strings.Contains(got.stderr, "the task goes on") {
			t.Errorf("%v: %+v, want to hear at once that it goes on", args, got)
		}
	}
	if got := end(t, command(t, s.Gateway, env, "task", "list")); got.status != 0 || strings.Count(got.stdout, "queued") != 2 {
		t.Errorf("task list: %+v, want both tasks", got)
	}
}

// The variables that the commands of callers read say where and how, never what.
func TestCommandEnvironment(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(build(t), "holdline")
	help := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), bin, append(args, "--help")...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v --help: %v\n%s", args, err, out)
		}
		return string(out)
	}
	checked := 0
	for _, line := range regexp.MustCompile(`(?m)^  ([a-z]+(?: [a-z]+)?)  `).FindAllStringSubmatch(help(), -1) {
		text := help(strings.Fields(line[1])...)
		if strings.Contains(text, "HOLDLINE_LOG_LEVEL") || !strings.Contains(text, "HOLDLINE_JSON") {
			continue // it serves, or asks nobody
		}
		checked++
		for _, name := range regexp.MustCompile(`HOLDLINE_\w+`).FindAllString(text, -1) {
			if !slices.Contains([]string{"HOLDLINE_SERVER", "HOLDLINE_ADMIN", "HOLDLINE_CACERT", "HOLDLINE_JSON"}, name) {
				t.Errorf("%s reads %s", line[1], name)
			}
		}
		if !strings.Contains(text, "Exit status:") {
			t.Errorf("%s --help does not tell the exit status", line[1])
		}
	}
	if checked < 10 {
		t.Errorf("%d commands checked, want all that callers have", checked)
	}
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if got := holdline(t, "", args...); got.status != 0 || !strings.HasPrefix(got.stdout, "holdline ") {
			t.Errorf("%v: %+v", args, got)
		}
	}
	for _, args := range [][]string{{}, {"call"}, {"task"}, {"task", "wait"}} {
		help, flag := holdline(t, "", append([]string{"help"}, args...)...), holdline(t, "", append(args, "--help")...)
		if help != flag || !strings.HasPrefix(help.stdout, "Usage: holdline") {
			t.Errorf("help %v: %+v\nwant\n%+v", args, help, flag)
		}
	}
	if got := holdline(t, "", "help", "me"); got.status != 2 || !strings.Contains(got.stderr, `"me"`) {
		t.Errorf("help me: %+v", got)
	}
}

// With --json whatever a command says is JSON, a line each.
func TestCommandJSON(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Without: []string{"sum"}})
	stored := holdline(t, s.Gateway, "call", sum, "--async", "--json")
	var handle struct{ ID, State string }
	if err := json.Unmarshal([]byte(stored.stdout), &handle); err != nil || handle.State != "TASK_STATE_QUEUED" || stored.stderr != "" {
		t.Fatalf("call --async --json: %+v, want a handle", stored)
	}
	for _, c := range []struct {
		args       []string
		status     int
		code, task string
	}{
		{[]string{"call", sum, "--wait", "0"}, 32, "deadline_exceeded", "arithmetic.v1.SumService."},
		{[]string{"task", "wait", handle.ID, "--wait", "0"}, 32, "deadline_exceeded", handle.ID},
		{[]string{"task", "wait", handle.ID, "--wait", "1ms"}, 32, "deadline_exceeded", handle.ID},
		{[]string{"call", sum, "-d", "{"}, 2, "invalid_argument", ""},
		{[]string{"call", sum, "-H", "no header"}, 2, "invalid_argument", ""},
		{[]string{"call", sum, "-d", "@/no/such/file"}, 2, "invalid_argument", ""},
		{[]string{"call", "nobody.v1.Knows/It"}, 1, "unknown", ""},
		{[]string{"call", sum, "--wait", "soon"}, 2, "invalid_argument", ""},
		{[]string{"task", "get", "x"}, 40, "not_found", ""},
		{[]string{"services", "--server", freeport.Addr(t)}, 112, "unavailable", ""},
	} {
		got := holdline(t, s.Gateway, append(c.args, "--json")...)
		var said struct{ Code, Message, Task string }
		if err := json.Unmarshal([]byte(got.stderr), &said); err != nil {
			t.Errorf("%v: %v: %+v", c.args, err, got)
		}
		if got.status != c.status || said.Code != c.code || said.Message == "" || !strings.HasPrefix(said.Task, c.task) || got.stdout != "" {
			t.Errorf("%v: %+v, want status %d, code %s, task %s", c.args, got, c.status, c.code, c.task)
		}
	}
}

// A call that is interrupted while it is held is told to be cancelled, and is.
func TestCallInterrupted(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Without: []string{"sum"}})
	for _, flags := range [][]string{nil, {"--json"}, {"--protocol", "grpc"}} {
		cmd := command(t, s.Gateway, nil, append([]string{"call", sum, "--wait", "5m"}, flags...)...)
		ended := begin(t, cmd)
		awaitTasks(t, s.Gateway, 1, momv1.TaskState_TASK_STATE_QUEUED)
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		got := ended()
		if got.status != 8 || !strings.Contains(got.stderr, "the call is cancelled") || strings.Contains(got.stderr, "gateway there") {
			t.Errorf("%v: %+v, want to hear that it is cancelled", flags, got)
		}
		awaitTasks(t, s.Gateway, 0, momv1.TaskState_TASK_STATE_QUEUED)
	}
	awaitTasks(t, s.Gateway, 3, momv1.TaskState_TASK_STATE_CANCELLED)
}

// secureServer speaks HTTP/2 over TLS, with a certificate that nobody trusts.
func secureServer(handler http.Handler) *httptest.Server {
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	return server
}

// A call whose gateway dies is not said to be cancelled, or never made.
func TestCallLosesItsGateway(t *testing.T) {
	t.Parallel()
	h := deploy(t, 1)
	cmd := command(t, "http://"+h.addr, nil, "call", ledgerService+"/Post", "--wait", "5m")
	ended := begin(t, cmd)
	awaitTasks(t, h.momAddr[0], 1, momv1.TaskState_TASK_STATE_QUEUED)
	h.gateways[0].kill(t)
	if got := ended(); got.status == 0 || !strings.Contains(got.stderr, "is not known") {
		t.Errorf("got %+v, want to hear that the outcome is not known", got)
	}
}

// What is said of a server that is no gateway fits what is there.
func TestNoGatewayThere(t *testing.T) {
	t.Parallel()
	s := journey(t)
	serve := func(start func(http.Handler) *httptest.Server) *httptest.Server {
		server := start(http.NotFoundHandler())
		t.Cleanup(server.Close)
		return server
	}
	page, secure := serve(httptest.NewServer), serve(secureServer)
	two := serve(func(h http.Handler) *httptest.Server {
		server := httptest.NewUnstartedServer(h)
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
		return server
	})
	const mind = "Is a gateway there?"
	for name, c := range map[string]struct{ server, want string }{
		"nobody":      {"http://" + freeport.Addr(t), mind},
		"HTTP/1.1":    {page.URL, "without the answer of a gateway"},
		"404":         {two.URL, "not as a gateway does"},
		"wants TLS":   {strings.Replace(secure.URL, "https", "http", 1), "try --server https://"},
		"unknown CA":  {secure.URL, "--cacert FILE"},
		"has no TLS":  {"https://" + s.Gateway, "try --server http://"},
		"a wrong URL": {"ftp://" + s.Gateway, "want one such as"},
	} {
		got := holdline(t, c.server, "services")
		if !strings.Contains(got.stderr, c.want) || got.status == 0 || c.want != mind && strings.Contains(got.stderr, mind) {
			t.Errorf("%s: %+v, want %q", name, got, c.want)
		}
	}
	_, port, _ := strings.Cut(s.Gateway, ":")
	for _, server := range []string{s.Gateway, "http://" + s.Gateway + "/", ":" + port, "localhost:" + port} {
		if got := holdline(t, server, "services"); got.status != 0 {
			t.Errorf("--server %s: %+v", server, got)
		}
	}
}

// A health check that fails says why, for the log of a container.
func TestHealthcheckSaysWhy(t *testing.T) {
	t.Parallel()
	s := journey(t)
	secure := secureServer(http.NotFoundHandler())
	defer secure.Close()
	for url, want := range map[string]string{
		"http://" + freeport.Addr(t):          "dial-refused",
		"http://" + s.Gateway + "/no.v1.Such": "another-service",
		secure.URL:                            "tls",
	} {
		if got := holdline(t, "", "healthcheck", url); got.status != 1 || !strings.Contains(got.stderr, "is not healthy: "+want) {
			t.Errorf("%s: %+v, want %s", url, got, want)
		}
	}
}

// What is no terminal gets no codes for one.
func TestQueueTopIntoPipe(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{})
	cmd := command(t, s.Gateway, nil, "queue", "top", "--interval", "250ms")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var text []byte
	for bytes.Count(text, []byte("SERVICE")) < 2 {
		var buffer [4096]byte
		n, err := out.Read(buffer[:])
		if text = append(text, buffer[:n]...); err != nil {
			t.Fatalf("%v after %s", err, text)
		}
	}
	if bytes.ContainsRune(text, '\x1b') {
		t.Errorf("codes for a terminal: %q", text)
	}
	_ = cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted: %v", err)
	}
}

// A command whose standard output takes nothing fails. If it was about a task, it says on standard error which one: the id is nowhere else.
func TestOutputCannotBeWritten(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("this system has no /dev/full")
	}
	defer func() { _ = full.Close() }()
	s := up(t, stack.Config{Without: []string{"sum"}})
	intoNothing := func(args ...string) printed {
		var stderr bytes.Buffer
		cmd := command(t, s.Gateway, nil, args...)
		cmd.Stdout, cmd.Stderr = full, &stderr
		_ = cmd.Run() // its exit status is a part of what it says
		return printed{"", stderr.String(), cmd.ProcessState.ExitCode()}
	}
	for _, args := range [][]string{{"--version"}, {"version"}, {"--help"}, {"help"}, {"services"}} {
		if got := intoNothing(args...); got.status != 1 || !strings.Contains(got.stderr, "no space left") {
			t.Errorf("%v: got %+v, want status 1, and why", args, got)
		}
	}
	got := intoNothing("call", sum, "--async")
	id := regexp.MustCompile(`is stored as task (\S+): holdline task wait (\S+)\n$`).FindStringSubmatch(got.stderr)
	if got.status != 1 || id == nil || id[1] != id[2] {
		t.Fatalf("call --async: got %+v, want status 1, and the task", got)
	}
	if got := holdline(t, s.Gateway, "task", "get", id[1]); got.status != 0 {
		t.Errorf("task get: got %+v, want the task", got)
	}
	got = intoNothing("call", sum, "--async", "--json")
	var said struct{ Task string }
	if err := json.Unmarshal([]byte(got.stderr), &said); err != nil || got.status != 1 || !strings.HasPrefix(said.Task, "arithmetic.v1.SumService.") {
		t.Errorf("call --async --json: got %+v, %v, want status 1, and the task", got, err)
	}
	start(t, build(t), "service", "sum", "--listen", s.Service["sum"])
	for _, args := range [][]string{{"task", "wait", id[1]}, {"call", sum, "--key", "k", "--wait", "1m"}} {
		if got := intoNothing(args...); got.status != 1 || !strings.Contains(got.stderr, "is stored as task arithmetic.v1.SumService.") {
			t.Errorf("%v: got %+v, want status 1, and the task", args, got)
		}
	}
}
