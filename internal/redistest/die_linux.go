package redistest

import (
	"os/exec"
	"syscall"
)

// dieWithParent ends the child even when the test binary has no time to: a
// timeout's panic runs no cleanup.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
