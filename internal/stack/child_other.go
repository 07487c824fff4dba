//go:build !linux

package stack

import "syscall"

// childAttr keeps the terminal's Ctrl-C from the child, which ends after the others.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
