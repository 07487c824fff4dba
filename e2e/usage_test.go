package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Whatever is wrong with a command line, the exit status is 2, and the error says what is wrong and whose help to read.
// A command that serves does not start.
func TestWrongCommandLines(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "lab.proto")
	if err := os.WriteFile(file, []byte("syntax = \"proto3\";\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	gateway := []string{"gateway", "--listen", "127.0.0.1:0", "--route", "a.v1.B=http://127.0.0.1:1"}
	mom := []string{"mom", "--listen", "127.0.0.1:0", "--route", "a.v1.B=http://127.0.0.1:1", "--redis"}
	up := []string{"up", "--ports", "0", "--state", t.TempDir()}
	for _, c := range []struct {
		command []string
		args    []string
		want    string
	}{
		{nil, []string{"nope"}, "nope"},
		{[]string{"task"}, nil, "expected one of"},
		{[]string{"call"}, []string{"Sum"}, `"Sum": want package.Service/Method`},
		{[]string{"call"}, []string{sum, "--key", ""}, "--key: the key is empty"},
		{[]string{"call"}, []string{sum, "--key", " "}, "--key: the key is empty"},
		{[]string{"call"}, []string{sum, "--wait=-1s"}, "--wait: -1s is negative"},
		{[]string{"call"}, []string{sum, "--wait", "-1s"}, "--wait: -1s is negative"},
		{[]string{"call"}, []string{sum, "--ttl", "0"}, "--ttl: 0"},
		{[]string{"call"}, []string{sum, "--ttl=-1m"}, "--ttl: -1m0s is negative"},
		{[]string{"call"}, []string{sum, "-H", "foo"}, `-H "foo" is not a header`},
		{[]string{"call"}, []string{sum, "-d", "@/no/such/file"}, "-d: open /no/such/file"},
		{[]string{"task", "list"}, []string{"--state", "foo"}, `no state "foo"`},
		{[]string{"task", "list"}, []string{"--limit", "0"}, "--limit: want 1 or more"},
		{[]string{"task", "list"}, []string{"--limit=-1"}, "--limit: -1 is negative"},
		{[]string{"task", "list"}, []string{"--limit", "-1"}, "--limit: -1 is negative"},
		{[]string{"queue", "limit"}, []string{"a.v1.A", "--running", "-1"}, "--running: -1 is negative"},
		{[]string{"queue", "limit"}, []string{"a.v1.A", "--per-second", "-.5"}, "--per-second: -0.5 is negative"},
		{[]string{"service"}, []string{"foo"}, `no service "foo"`},
		{[]string{"help"}, []string{"nope"}, `no command "nope"`},
		{[]string{"healthcheck"}, []string{"foo"}, `endpoint "foo": want http://host:port`},
		{[]string{"healthcheck"}, []string{"127.0.0.1:8080"}, `endpoint "127.0.0.1:8080": want http://host:port`},
		{[]string{"gateway"}, nil, "no routes"},
		{[]string{"gateway"}, []string{"--route", "foo"}, `route "foo"`},
		{gateway, []string{"--mom", "foo"}, `--mom: endpoint "foo"`},
		{gateway, []string{"--schema", file}, "is not a Buf image"},
		{gateway, []string{"--mom-secret-file", "/dev/null"}, "the file is empty"},
		{gateway, []string{"--tls-cert", file, "--tls-key", file}, "certificate " + file},
		{gateway, []string{"--listen", "foo"}, "listen on foo"},
		{gateway, []string{"--listen", "127.0.0.1:foo"}, "listen on 127.0.0.1:foo"},
		{gateway, []string{"--max-calls=-1"}, "--max-calls: -1 is negative"},
		{gateway, []string{"--cors-origin", "foo"}, `CORS origin "foo": want scheme://host`},
		{gateway, []string{"--cors-origin", "https://app.example/"}, `CORS origin "https://app.example/"`},
		{mom, []string{"foo"}, "the URL must begin with redis://"},
		{mom, []string{"redis://127.0.0.1:1", "--answer-ttl", "9999h"}, "7 days at most"},
		{mom, []string{"redis://127.0.0.1:1", "--max-queued=-1"}, "--max-queued: -1 is negative"},
		{up, []string{"--without", "foo"}, `no service "foo"`},
		{up, []string{"--redis", "foo"}, "the URL must begin with redis://"},
		{up, []string{"--route", "foo"}, `route "foo"`},
		{up, []string{"--route", "arithmetic.v1.SumService=http://127.0.0.1:1"}, "--no-services leaves out the example services"},
		{up, []string{"--schema", file}, "is not a Buf image"},
		{up, []string{"--no-services"}, "no routes"},
	} {
		args := append(append([]string(nil), c.command...), c.args...)
		help := append([]string{"holdline"}, c.command...)
		for i, arg := range help {
			if strings.HasPrefix(arg, "--") {
				help = help[:i]
				break
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		got := end(t, exec.CommandContext(ctx, filepath.Join(build(t), "holdline"), args...))
		cancel()
		hint := fmt.Sprintf("\nTry: %s --help\n", strings.Join(help, " "))
		if got.status != 2 || got.stdout != "" || !strings.Contains(got.stderr, c.want) || !strings.HasSuffix(got.stderr, hint) {
			t.Errorf("%q: %+v, want status 2, %q and %q", args, got, c.want, hint)
		}
	}
}
