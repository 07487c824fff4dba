package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"holdline/internal/stack"
)

// The README's fetch example, on a page of another origin, in a real browser.
func TestBrowserFetch(t *testing.T) {
	t.Parallel()
	needBrowser(t)
	s := up(t, stack.Config{CORSOrigins: []string{"*"}})
	if got, want := browse(t, blocks(readme(t, s), "js")[0]+"\nreturn result;"), "3"; got != want {
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
	profile, err := os.MkdirTemp("", "holdline-browser-") //nolint:usetesting // removed when the browser is gone
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
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
	defer func() {
		cancel()
		_ = browser.Wait()
		for range 100 { // its last processes may still write
			if os.RemoveAll(profile) == nil {
				break
			}
		}
	}()
	select {
	case got := <-result:
		return got
	case <-ctx.Done():
		t.Fatal("the page said nothing within a minute")
		return ""
	}
}
