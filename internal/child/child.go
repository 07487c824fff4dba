// Package child runs other programs. On Linux they end with the process that
// started them, even when that has no time to end them: a test's timeout runs no cleanup.
package child

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Start starts a command, which gets the signal last when this process is gone. Once the command has
// ended, gone is closed, and cmd.ProcessState says how.
func Start(cmd *exec.Cmd, last syscall.Signal) (gone <-chan struct{}, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	dieWithParent(cmd.SysProcAttr, last)
	ended, started := make(chan struct{}), make(chan error, 1)
	go func() {
		// The kernel looks at the thread that started the child, not at the
		// process: the thread stays for as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // that it was killed is no news
		}
	}()
	return ended, <-started
}
