package e2e

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// Pages with programs show every file in a block that is named after the file, such as ```go main.go, and the commands
// in blocks that are named after what they are for, such as ```sh prepare. The tests run these blocks.

// docsPage returns a page of docs/ with other addresses in place of those that it shows.
func docsPage(tb testing.TB, name, gateway, service string) string {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join("../docs", name))
	if err != nil {
		tb.Fatal(err)
	}
	return strings.NewReplacer("127.0.0.1:8080", gateway, "127.0.0.1:50051", service).Replace(string(raw))
}

// under returns what stands under a heading of a page, up to the next heading.
func under(tb testing.TB, page, heading string) string {
	tb.Helper()
	_, text, ok := strings.Cut(page, "\n"+heading+"\n")
	if !ok {
		tb.Fatalf("no heading %q", heading)
	}
	if next := regexp.MustCompile("\n##+ ").FindStringIndex(text); next != nil {
		text = text[:next[0]+1]
	}
	return text
}

var namedBlock = regexp.MustCompile("(?ms)^```\\w+ ([^\n]+)\n(.*?)^```$")

// named returns the blocks that have a name. Blocks of the same name are one, in their order.
func named(markdown string) map[string]string {
	all := map[string]string{}
	for _, block := range namedBlock.FindAllStringSubmatch(markdown, -1) {
		all[block[1]] += block[2]
	}
	return all
}

// workshop is a folder with the files of a page, where its commands run.
type workshop struct {
	dir    string
	blocks map[string]string
}

// furnish writes the files of a page, and runs the commands that prepare them.
func furnish(t *testing.T, page string) *workshop {
	t.Helper()
	w := &workshop{dir: t.TempDir(), blocks: named(page)}
	for name, block := range w.blocks {
		if !strings.Contains(name, ".") {
			continue // it has commands
		}
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build(t)
	if out, err := w.bash(t, "set -e\n"+w.blocks["prepare"]).CombinedOutput(); err != nil {
		t.Fatalf("prepare: %v\n%s", err, out)
	}
	return w
}

// script is what a shell runs for some of the page's commands: in the folder, with our binary on its PATH, and
// with Debian's python3, which has Debian's grpcio, before any other.
func (w *workshop) script(commands string) string {
	return "cd " + w.dir + "\nPATH=" + binFolder + ":/usr/bin:$PATH\n" + commands
}

func (w *workshop) bash(t *testing.T, commands string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(t.Context(), "bash", "-c", w.script(commands))
}

// program is a command that is stopped by a signal: it takes the place of its shell.
func (w *workshop) program(command string) []string {
	return []string{"-c", w.script("exec " + strings.TrimSpace(command))}
}

// needTools skips a test whose tools are not here. The probe is a command that fails then.
func needTools(t *testing.T, probe, get string) {
	t.Helper()
	if !*withWorld {
		t.Skip("`make world` runs this")
	}
	if out, err := exec.CommandContext(t.Context(), "bash", "-c", "PATH=/usr/bin:$PATH\n"+probe).CombinedOutput(); err != nil {
		t.Skipf("%s\n%s", get, out)
	}
}

const (
	probePython = "python3 -c 'import grpc, google.protobuf' && protoc --version && command -v grpc_python_plugin"
	getPython   = "apt-get install python3-grpcio python3-protobuf protobuf-compiler-grpc"
)

// docs/your-service.md, as somebody follows it, in each of its languages.
func TestWorldYourService(t *testing.T) {
	t.Parallel()
	languages := map[string]struct{ up, probe, get string }{
		"Go":     {"up", "go version", "https://go.dev/doc/install"},
		"Node":   {"up", "node --version && npm --version", "apt-get install nodejs npm"},
		"Python": {"up with a schema", probePython, getPython},
	}
	for name, language := range languages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			needTools(t, language.probe, language.get)
			first, service := freeport.Ports(t, 12), freeport.Addr(t)
			at := func(place int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(first+place)) }
			gateway, mom, admin := at(0), at(10), at(11)
			page := docsPage(t, "your-service.md", gateway, service)
			for other := range languages {
				if other != name {
					page = strings.Replace(page, under(t, page, "### "+other), "", 1)
				}
			}
			w := furnish(t, page)
			serve := func() (stop func()) { return serveWith(t, service, "bash", w.program(w.blocks["serve"])...) }
			stop := serve()
			ports := " --ports " + strconv.Itoa(first) + " --state " + t.TempDir()
			holdline := &process{name: "bash", args: w.program(strings.TrimSpace(w.blocks[language.up]) + ports)}
			holdline.begin(t)
			awaitReady(t, mom)
			admins.Store(mom, admin)

			answered := examples(w.blocks["answered"])[0]
			eventually(t, func() bool {
				got, err := w.bash(t, answered.command).Output()
				return err == nil && strings.TrimSpace(string(got)) == strings.TrimSpace(answered.want)
			}, "%s prints %s", answered.command, answered.want)
			eventually(t, func() bool {
				res, _ := post(t, "http://"+gateway+"/"+greeterService+"/SayHello", "{}", "Idempotency-Key: known")
				return res.StatusCode == http.StatusOK
			}, "the MOM knows the schema")
			stop()

			script, want := "", ""
			for _, e := range examples(w.blocks["outage"]) {
				script, want = script+e.command+"\necho\n", want+e.want+"\n" // curl ends no line
			}
			ended := begin(t, w.bash(t, script))
			awaitTasks(t, mom, 2, momv1.TaskState_TASK_STATE_QUEUED) // one has its handle, the other is held
			serve()
			if got := ended(); got.status != 0 || !slices.Equal(strings.Fields(got.stdout), strings.Fields(want)) {
				t.Errorf("got %+v, want\n%s", got, want)
			}
		})
	}
}

// The programs of docs/clients.md print the same, whether their service is up, comes back while they are held, or later.
func TestWorldCallers(t *testing.T) {
	t.Parallel()
	for heading, c := range map[string]struct {
		probe, get string
		pages      []string // programs that also run in a browser
	}{
		"JavaScript": {"node --version && npm --version && protoc --version", "apt-get install nodejs npm protobuf-compiler", []string{"fetch.js", "connect-web.js"}},
		"grpc-go":    {"go version", "https://go.dev/doc/install", nil},
		"Python":     {probePython, getPython, nil},
		"A script":   {"curl --version", "apt-get install curl", nil},
	} {
		t.Run(heading, func(t *testing.T) {
			t.Parallel()
			needTools(t, c.probe, c.get)
			service := freeport.Addr(t)
			s := up(t, stack.Config{
				Schemas: []string{imageOf(t, greeterFile())}, Routes: []string{greeterService + "=http://" + service}, CORSOrigins: []string{"*"},
			})
			w := furnish(t, under(t, docsPage(t, "your-service.md", s.Gateway, service), "## 1. A service")+
				under(t, docsPage(t, "clients.md", s.Gateway, service), "### "+heading))
			serve := func() (stop func()) { return run(t, greeter(service)) }

			stop := serve()
			eventually(t, func() bool {
				res, _ := post(t, "http://"+s.Gateway+"/"+greeterService+"/SayHello", "{}", "Holdline-Mode: direct")
				return res.StatusCode == http.StatusOK
			}, "the service is up")
			answered := w.callAll(t, c.pages)
			expectHello(t, "answered", answered, false)
			stop()

			held := w.callAll(t, c.pages)
			awaitTasks(t, s.Gateway, len(held), momv1.TaskState_TASK_STATE_QUEUED)
			stop = serve()
			expectHello(t, "held", held, false)
			stop()

			handles := w.callAll(t, c.pages)
			for _, program := range handles {
				eventually(t, program.hasHandle, "%s has a handle", program.command)
			}
			serve()
			expectHello(t, "handle", handles, true)
		})
	}
}

// calling is a program of a page that runs.
type calling struct {
	command string
	stderr  string // a file
	ended   func() printed
}

// callAll starts all programs of a page that call, and some of them in a browser, too.
func (w *workshop) callAll(t *testing.T, pages []string) (all []calling) {
	t.Helper()
	for command := range strings.Lines(w.blocks["call"]) {
		c := calling{command: strings.TrimSpace(command), stderr: filepath.Join(t.TempDir(), "stderr")}
		c.ended = begin(t, w.bash(t, "exec "+c.command+" 2> "+c.stderr))
		all = append(all, c)
	}
	if len(all) == 0 {
		t.Fatal("the page has no program that calls")
	}
	if _, err := exec.LookPath("chromium"); err != nil {
		return all
	}
	for _, program := range pages {
		all = append(all, w.inBrowser(t, program))
	}
	return all
}

// said is what the program has written to its standard error until now.
func (c calling) said() string {
	raw, _ := os.ReadFile(c.stderr) // the program has yet to begin, else
	return string(raw)
}

func (c calling) hasHandle() bool { return strings.Contains(c.said(), "stored as "+greeterService) }

func expectHello(t *testing.T, outcome string, all []calling, handle bool) {
	t.Helper()
	for _, c := range all {
		if got := c.ended(); got.status != 0 || !strings.Contains(got.stdout, "Hello Ada") || c.hasHandle() != handle {
			t.Errorf("%s, %s: got %+v, and said %q", outcome, c.command, got, c.said())
		}
	}
}
