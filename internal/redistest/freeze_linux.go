package redistest

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// FreezeProcess stops a child process, as Freeze does, and returns when all of its threads have stopped. On a busy machine
// that takes a while after the signal, and until then it goes on with its work.
func FreezeProcess(tb testing.TB, p *os.Process) {
	tb.Helper()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		tb.Fatalf("freeze process %d: %v", p.Pid, err)
	}
	for {
		err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if err == nil {
			return
		}
		if err != unix.EINTR {
			tb.Fatalf("freeze process %d: %v", p.Pid, err)
		}
	}
}
