//go:build unix && !(linux && (amd64 || arm64) && !race)

package wire

import (
	"errors"
	"syscall"
)

// The race detector has to see these.

func sysRead(fd uintptr, p []byte) (int, syscall.Errno) { return counted(syscall.Read(int(fd), p)) }

func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) { return counted(syscall.Write(int(fd), p)) }

func sysPeek(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, err := syscall.Recvfrom(int(fd), p, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return counted(n, err)
}

// counted has no bytes where there is an error.
func counted(n int, err error) (int, syscall.Errno) {
	errno, _ := errors.AsType[syscall.Errno](err)
	return max(n, 0), errno
}
