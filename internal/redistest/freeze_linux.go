package redistest

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// awaitStopped waits until all threads of a child process have stopped. On a busy machine that takes a while after the
// signal, and until then it goes on with its work.
func awaitStopped(p *os.Process) error {
	for {
		err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
