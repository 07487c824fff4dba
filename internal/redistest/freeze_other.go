//go:build !linux

package redistest

import (
	"os"
	"syscall"
	"testing"
)

// FreezeProcess stops a child process, as Freeze does.
func FreezeProcess(tb testing.TB, p *os.Process) {
	tb.Helper()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		tb.Fatalf("freeze process %d: %v", p.Pid, err)
	}
}
