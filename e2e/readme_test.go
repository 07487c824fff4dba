package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// example is one command of a page with the output printed below it.
type example struct{ command, want string }

// examples reads a ```console block.
func examples(block string) (list []example) {
	for line := range strings.Lines(block) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			list = append(list, example{command: strings.TrimSpace(command)})
		} else {
			list[len(list)-1].want += line
		}
	}
	return list
}

// blocks returns the fenced blocks of a language.
func blocks(markdown, language string) (list []string) {
	for {
		_, rest, ok := strings.Cut(markdown, "\n```"+language+"\n")
		if !ok {
			return list
		}
		block, after, _ := strings.Cut(rest, "```\n")
		list = append(list, block)
		markdown = "\n" + after
	}
}

// readme returns the README, and the pages that have commands for those who read on, with the
// addresses of a running stack.
func readme(tb testing.TB, s *stack.Stack) string {
	tb.Helper()
	var raw []byte
	for _, name := range []string{"../README.md", "../docs/clients.md", "../docs/operations.md"} {
		page, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		raw = append(raw, page...)
	}
	return strings.NewReplacer(
		"127.0.0.1:8080", s.Gateway,
		"127.0.0.1:8081", s.Service["sum"],
		"127.0.0.1:8082", s.Service["subtraction"],
		"127.0.0.1:8083", s.Service["multiplication"],
	).Replace(string(raw))
}

// binFolder is made and removed by TestMain.
var binFolder string

// buildOnce builds the binary for all tests of this package.
var buildOnce = sync.OnceValue(func() error {
	if out, err := exec.Command("go", "build", "-o", filepath.Join(binFolder, "holdline"), "..").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
})

// build returns a folder with the binary in it.
func build(tb testing.TB) string {
	tb.Helper()
	if err := buildOnce(); err != nil {
		tb.Fatal(err)
	}
	return binFolder
}

// shell prepares a command with our binary on its PATH and our server as its own.
func shell(t *testing.T, s *stack.Stack, bin, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"),
		"HOLDLINE_SERVER=http://"+s.Gateway, "HOLDLINE_ADMIN="+s.Admin, "HOLDLINE_LISTEN="+s.Service["sum"])
	return cmd
}

// Every command of the README and of the pages prints what they say.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{})
	bin := build(t)
	// The first block starts the system and these tests.
	for _, block := range blocks(readme(t, s), "console")[1:] {
		for _, e := range examples(block) {
			t.Run(e.command, func(t *testing.T) {
				tool, _, _ := strings.Cut(e.command, " ")
				if _, err := exec.LookPath(tool); err != nil && tool != "holdline" {
					t.Skipf("%s is not on PATH; `make buf` builds buf", tool)
				}
				got, err := shell(t, s, bin, e.command).CombinedOutput()
				if err != nil {
					t.Fatalf("%v\n%s", err, got)
				}
				if strings.TrimSpace(string(got)) != strings.TrimSpace(e.want) {
					t.Errorf("got\n%s\nwant\n%s", got, e.want)
				}
			})
		}
	}
}

// fetchExample is the program of docs/clients.md that calls with fetch, in one piece.
func fetchExample(tb testing.TB, gateway string) string {
	tb.Helper()
	all := named(docsPage(tb, "clients.md", gateway, ""))
	_, program, _ := strings.Cut(all["fetch.js"], "import { answer } from \"./answer.js\";\n")
	return strings.TrimPrefix(all["answer.js"], "export ") + program
}

// The fetch example in Node: while the service is down it waits for the answer of
// its task, and an error is an error.
func TestReadmeFetch(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not on PATH: apt-get install nodejs")
	}
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{imageOf(t, greeterFile())}, Routes: []string{greeterService + "=http://" + addr}})
	asked, ask := context.WithCancel(t.Context())
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.Gateway})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/answer") {
			ask()
		}
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	script := fetchExample(t, strings.TrimPrefix(front.URL, "http://"))
	node := func(script string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "node", "--input-type=module", "-e", script).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if got, err := node(script); err != nil || !strings.HasSuffix(got, "\nHello Ada") {
			t.Errorf("the example printed %s, %v, want the handle and a greeting", got, err)
		}
	})
	<-asked.Done()
	run(t, greeter(addr))
	waiting.Wait()

	if got, err := node(strings.Replace(script, "helloworld.Greeter", "helloworld.Nobody", 1)); err == nil || !strings.Contains(got, "Error: unimplemented: ") {
		t.Errorf("a call that fails: the example printed %s, %v, want its error", got, err)
	}
}

// The outage of the README, played in one shell, which starts the service.
func TestReadmeOutage(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Without: []string{"sum"}})
	script, want := "set -e; trap 'kill %1' EXIT\n", ""
	for _, e := range examples(blocks(readme(t, s), "console outage")[0]) {
		script, want = script+e.command+"\n", want+e.want
	}
	cmd := shell(t, s, build(t), script)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	got, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, got, stderr.String())
	}
	if strings.TrimSpace(string(got)) != strings.TrimSpace(want) {
		t.Errorf("got\n%s\nwant\n%s%s", got, want, stderr.String())
	}
}
