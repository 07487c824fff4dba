package e2e

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdline/internal/freeport"
)

// A terminal that is closed ends what serves in it, in order and with a word; under
// nohup it does not.
func TestHangup(t *testing.T) {
	t.Parallel()
	// What this process ignores, as under nohup, its children would ignore too; what it handles they do not.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	for _, shell := range []string{"", `trap "" HUP; `} {
		var lines jsonLines
		addr := freeport.Addr(t)
		p := &process{name: "/bin/sh", log: &lines, args: []string{"-c", shell + `exec "$0" "$@"`, filepath.Join(build(t), "holdline"),
			"gateway", "--listen", addr, "--route", "a.v1.B=http://" + freeport.Addr(t), "--log-format", "json"}}
		p.begin(t)
		awaitReady(t, addr)
		p.signal(t, syscall.SIGHUP)
		cause := "hangup"
		if shell != "" {
			cause = "terminated"
			awaitReady(t, addr)
			p.signal(t, syscall.SIGTERM)
		}
		wait(t, p.gone, "the gateway has ended")
		if want := `"told to end: calls under way may end, no others come","cause":"` + cause; !strings.Contains(lines.text.String(), want) {
			t.Errorf("%q: logged %s, want %s", shell, &lines.text, want)
		}
		if status := p.cmd.ProcessState.ExitCode(); status != 0 {
			t.Errorf("%q: exit status %d", shell, status)
		}
	}
}
