package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	momv1 "holdline/gen/mom/v1"
)

// runbook is swarm/README.md as somebody follows it: its commands run in a shell, but for those
// of Docker, which the test has its own ways for.
type runbook struct {
	t      *testing.T
	text   string
	env    []string
	docker map[string]func() // by command
}

// follow runs the block of commands that follows a text, and returns what they print.
func (r *runbook) follow(after string) string {
	r.t.Helper()
	_, rest, ok := strings.Cut(r.text, after)
	list := blocks(rest, "sh")
	if !ok || len(list) == 0 {
		r.t.Fatalf("the runbook has no commands after %q", after)
	}
	var printed strings.Builder
	for line := range strings.Lines(list[0]) {
		command, _, _ := strings.Cut(strings.TrimSpace(line), "   ")
		if do, ok := r.docker[command]; ok {
			do()
			continue
		}
		cmd := exec.CommandContext(r.t.Context(), "bash", "-c", command)
		cmd.Env, cmd.Dir = append(os.Environ(), r.env...), r.t.TempDir()
		out, err := cmd.CombinedOutput()
		if err != nil {
			r.t.Fatalf("%s: %v\n%s", command, err, out)
		}
		printed.Write(out)
	}
	return printed.String()
}

// A backup is restored as the runbook says: what may not run twice does not, what may does, and
// calls go on being stored.
func TestRestoreAsTheRunbookSays(t *testing.T) {
	t.Parallel()
	h := deploy(t, 2)
	raw, err := os.ReadFile("../swarm/README.md")
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "redis.tar")
	again := func(env ...string) func() {
		return func() {
			for _, mom := range h.moms {
				mom.signal(t, syscall.SIGTERM)
				<-mom.gone
				mom.env = env
				mom.restart(t)
			}
		}
	}
	book := runbook{
		t:    t,
		text: strings.ReplaceAll(string(raw), "redis.tar", archive),
		env:  []string{"DATA=" + h.redis.Dir(), "MOM=" + h.moms[0].name, "HOLDLINE_ADMIN=" + adminOf(t, h.momAddr[0])},
		docker: map[string]func(){
			"DATA=$(docker volume inspect -f '{{.Mountpoint}}' holdline_redis-data)": func() {},
			`MOM="docker exec $(docker ps -qf name=holdline_mom | head -1) /holdline"`: func() {
				h.awaitReady(t)
			},
			"docker service update --env-add HOLDLINE_HOLD=true holdline_mom": again("HOLDLINE_HOLD=true"),
			"docker service update --env-rm HOLDLINE_HOLD holdline_mom":       again(),
			"docker service scale holdline_redis=0":                           func() { h.redis.Kill(t) },
			"docker service scale holdline_redis=1":                           func() { h.redis.Restart(t) },
		},
	}

	const n = 5
	posts, reads := h.async(t, "Post", n), h.async(t, "Read", n)
	book.follow("**Back up Redis**")
	var l ledger
	stop := run(t, l.serve(t, h.ledger))
	h.checkAnswers(t, posts)
	h.checkAnswers(t, reads)
	stop()

	book.follow("**Restore it**")
	h.awaitReady(t)
	stop = run(t, l.serve(t, h.ledger))
	eventually(t, func() bool { // the second of the start is over
		info := h.redis.Ask(t, "INFO", "server")
		return !strings.Contains(info, "uptime_in_seconds:0\r") && !strings.Contains(info, "uptime_in_seconds:1\r")
	}, "Redis runs")
	fresh, err := h.postAsync(t, 100, 1)
	if fresh == "" {
		t.Fatalf("a call while the MOMs are on hold: %v, want a handle", err)
	}
	if l.total() != 2*n {
		t.Errorf("%d calls ran, want %d: the MOMs are on hold", l.total(), 2*n)
	}
	printed := book.follow("Look at what is there")
	for _, want := range []string{"on hold", posts[0], reads[n-1], "5 tasks are uncertain now"} {
		if !strings.Contains(printed, want) {
			t.Errorf("the runbook's commands printed no %q:\n%s", want, printed)
		}
	}

	h.awaitReady(t)
	h.checkAnswers(t, reads)
	awaitState(t, h.addr, fresh, momv1.TaskState_TASK_STATE_SUCCEEDED)
	for _, id := range posts {
		task := awaitState(t, h.addr, id, momv1.TaskState_TASK_STATE_UNCERTAIN)
		if task.GetLastFailure() != "restored from a backup: may have run since" {
			t.Errorf("task = %v, want it to say why it is uncertain", task)
		}
	}
	if l.posted() != n+1 || l.total() != 3*n+1 {
		t.Errorf("%d calls ran, %d of them of Post; want %d and %d", l.total(), l.posted(), 3*n+1, n+1)
	}
	if _, err := taskService(t, h.momAddr[0]).RetryTask(t.Context(), &momv1.RetryTaskRequest{Id: posts[0]}); err != nil {
		t.Errorf("retry: %v", err)
	}
	awaitState(t, h.addr, posts[0], momv1.TaskState_TASK_STATE_SUCCEEDED)
	stop()
}
