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

// maxRetransmits is how often the kernel may send the same bytes, or a probe, again without an acknowledgement. After that we take the connection for
// dead: after about three seconds, where answers take milliseconds.
const maxRetransmits = 4

// unacknowledged tells whether a connection is dead: its path is lost, while other connections may still work. If only the process is
// frozen, or does not read, its kernel still acknowledges.
func unacknowledged(conn syscall.RawConn) (dead bool) {
	_ = conn.Control(func(fd uintptr) { // an error says that it is closed
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		dead = err == nil && (info.Retransmits >= maxRetransmits && info.Unacked > 0 || info.Probes >= maxRetransmits)
	})
	return dead
}
