package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// The fetch example of docs/clients.md, on a page of another origin, in a real browser.
func TestBrowserFetch(t *testing.T) {
	t.Parallel()
	needBrowser(t)
	addr := freeport.Addr(t)
	s := up(t, stack.Config{CORSOrigins: []string{"*"}, Schemas: []string{imageOf(t, greeterFile())}, Routes: []string{greeterService + "=http://" + addr}})
	run(t, greeter(addr))
	if got, want := browse(t, fetchExample(t, s.Gateway)+"\nreturn reply.message;"), "Hello Ada"; got != want {
		t.Errorf("the page got %s, want %s", got, want)
	}
}

func needBrowser(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip("chromium is not on PATH: apt-get install chromium")
	}
}

// browse runs a script in a page of an origin of its own, and returns what the
// script returns, or the error it throws.
func browse(t *testing.T, script string) string {
	t.Helper()
	page, result := scripted(script)
	server := httptest.NewServer(page)
	defer server.Close()
	return visit(t, server.URL, result)
}

// scripted is a page that runs a script and posts to itself what it returns.
func scripted(script string) (page http.Handler, result <-chan string) {
	said := make(chan string, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") { // a gateway looks what it speaks
			http.NotFound(w, r)
			return
		}
		if r.Method == http.MethodPost {
			raw, _ := io.ReadAll(r.Body)
			select {
			case said <- string(raw):
			default: // one is enough
			}
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><script type="module">
const run = async () => { %s };
const said = await run().catch(String);
await fetch("", {method: "POST", body: String(said)});
</script>`, script)
	}), said
}

// visit opens a page in a browser until there is a result.
func visit(t *testing.T, url string, result <-chan string, flags ...string) string {
	t.Helper()
	return open(t, url, result, flags...)()
}

// open opens a page in a browser, and returns how to wait for its result, which ends the browser.
func open(t *testing.T, url string, result <-chan string, flags ...string) (wait func() string) {
	t.Helper()
	profile, err := os.MkdirTemp("", "holdline-browser-") //nolint:usetesting // removed when the browser is gone
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	flags = append(flags, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
		"--ignore-certificate-errors", "--user-data-dir="+profile, url)
	browser := exec.CommandContext(ctx, "chromium", flags...)
	// All of its processes, which write to the profile until they are gone.
	browser.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	browser.Cancel = func() error { return syscall.Kill(-browser.Process.Pid, syscall.SIGKILL) }
	if err := browser.Start(); err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		cancel()
		_ = browser.Wait()
		for range 100 { // its last processes may still write
			if os.RemoveAll(profile) == nil {
				break
			}
		}
	})
	t.Cleanup(end)
	return func() string {
		defer end()
		select {
		case got := <-result:
			return got
		case <-ctx.Done():
			t.Fatal("the page said nothing within a minute")
			return ""
		}
	}
}

// inPage is what a page needs to run a program that Node runs too: where its modules are, and who reads what it prints.
const inPage = `
const map = document.createElement("script");
map.type = "importmap";
map.textContent = JSON.stringify({ imports: Object.fromEntries(["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-web"].flatMap(
  (name) => [[name, "/node_modules/" + name + "/dist/esm"], [name + "/", "/node_modules/" + name + "/dist/esm/"]])) });
document.head.append(map);
console.error = (...words) => fetch("/stderr", { method: "POST", body: words.join(" ") });
let said;
console.log = (word) => { said = word; };
await import("/%s");
return said;
`

// inBrowser runs a program of a page in a browser.
func (w *workshop) inBrowser(t *testing.T, program string) calling {
	t.Helper()
	c := calling{command: "chromium " + program, stderr: filepath.Join(t.TempDir(), "stderr")}
	page, result := scripted(fmt.Sprintf(inPage, program))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		name := filepath.Join(w.dir, r.URL.Path)
		info, err := os.Stat(name)
		switch {
		case r.URL.Path == "/":
			page.ServeHTTP(rw, r)
		case r.URL.Path == "/stderr":
			said, _ := io.ReadAll(r.Body)
			if err := os.WriteFile(c.stderr, said, 0o600); err != nil {
				t.Error(err)
			}
		case err == nil && info.IsDir(): // an import names the folder of a module
			http.Redirect(rw, r, r.URL.Path+"/index.js", http.StatusFound)
		default:
			http.ServeFile(rw, r, name)
		}
	}))
	t.Cleanup(server.Close)
	wait := open(t, server.URL, result)
	c.ended = func() printed { return printed{stdout: wait()} }
	return c
}
