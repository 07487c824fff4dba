// Package child runs other programs. On Linux they end with the process that started them, even if that
// process cannot stop them: a test binary that times out runs no cleanup.
package child

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Start starts a command. On Linux, the command gets the signal last when this process ends. When the command
// has ended, gone is closed, and cmd.ProcessState says how it ended.
func Start(cmd *exec.Cmd, last syscall.Signal) (gone <-chan struct{}, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	dieWithParent(cmd.SysProcAttr, last)
	ended, started := make(chan struct{}), make(chan error, 1)
	go func() {
		// The kernel sends the signal when the thread that started the child ends, not when the process
		// ends. So this thread must live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // an error says how it ended; ProcessState says it too
		}
	}()
	return ended, <-started
}
