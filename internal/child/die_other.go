//go:build !linux

package child

import "syscall"

// dieWithParent needs Linux.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
