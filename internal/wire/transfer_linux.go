//go:build linux && (amd64 || arm64) && !race

package wire

import (
	"syscall"
	"unsafe"
)

// These never wait, so the runtime is not told of them. A thread in a system call that it knows of may lose its right to run Go code when that takes
// longer than 20 µs, as a write that wakes its receiver does on a busy machine. Then another thread is woken, and this one has to wait for its turn.

func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	return count(syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))))
}

func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	return count(syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))))
}

func sysPeek(fd uintptr, p []byte) (int, syscall.Errno) {
	return count(syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0))
}

func count(n, _ uintptr, errno syscall.Errno) (int, syscall.Errno) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
