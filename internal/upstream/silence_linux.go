package upstream

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitSilence makes a connection break when nobody acknowledges what was sent:
// the kernel would repeat it for a quarter of an hour.
func limitSilence(_, _ string, conn syscall.RawConn) error {
	var failed error
	err := conn.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int((keepAliveAfter + keepAliveFor).Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}
