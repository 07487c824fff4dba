package stack

import "syscall"

// childAttr keeps the terminal's Ctrl-C from the child, which ends after the
// others, and ends it should this process be killed.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
