package main

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// polledConn is a connection that Go's scheduler knows nothing of. Nothing waits in Read: see whole.
type polledConn struct {
	net.Conn // closed: what it knows of its addresses

	fd int
}

// newPolledConn makes one of a connection, which it closes.
func newPolledConn(conn *net.TCPConn) (*polledConn, error) {
	defer func() { _ = conn.Close() }()
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &polledConn{Conn: conn}
	controlled := raw.Control(func(fd uintptr) { c.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	return c, errors.Join(controlled, err)
}

// Read implements net.Conn.
func (c *polledConn) Read(b []byte) (int, error) {
	for {
		switch n, err := raw(unix.SYS_READ, c.fd, b); {
		case err == nil && n == 0:
			return 0, io.EOF
		case !errors.Is(err, unix.EINTR):
			return max(n, 0), err
		}
	}
}

// raw is a system call of which the runtime is not told: see docs/adr/0047. None of them waits for long.
func raw(call uintptr, fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// whole is what comes of a look for something whole: false where that would have to wait for more.
func whole(err error) (bool, error) {
	if errors.Is(err, unix.EAGAIN) {
		return false, nil
	}
	return err == nil, err
}

// Write implements net.Conn.
func (c *polledConn) Write(b []byte) (wrote int, err error) {
	for wrote < len(b) {
		n, err := raw(unix.SYS_WRITE, c.fd, b[wrote:])
		if errors.Is(err, unix.EAGAIN) {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}, int(patience.Milliseconds()))
		}
		if wrote += max(n, 0); err != nil && !errors.Is(err, unix.EINTR) {
			return wrote, os.NewSyscallError("write", err)
		}
	}
	return wrote, nil
}

// SetDeadline implements net.Conn: poll has its own.
func (c *polledConn) SetDeadline(time.Time) error { return nil }

// Close implements net.Conn.
func (c *polledConn) Close() error { return os.NewSyscallError("close", unix.Close(c.fd)) }

// poll drives all connections in one thread, and waits for all of them together, as wrk and h2load do: what goroutines cost is
// taken from what is measured, on the same cores.
func poll(loads []*load, end time.Time) error {
	all, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	defer func() { _ = unix.Close(all) }()
	open := 0
	for i, l := range loads {
		if l.begin(); l.open == 0 {
			continue
		}
		open++
		if err := unix.EpollCtl(all, unix.EPOLL_CTL_ADD, l.polled.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	last := end.Add(patience)
	events := make([]unix.EpollEvent, len(loads))
	for open > 0 {
		n, err := await(all, events)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return os.NewSyscallError("epoll_wait", err)
		case n == 0 && time.Now().After(last):
			for _, l := range loads {
				if l.open > 0 {
					l.fail(os.ErrDeadlineExceeded)
				}
			}
			return nil
		}
		for _, event := range events[:n] {
			l := loads[event.Fd]
			if l.take(end); l.open == 0 {
				open--
				if err := unix.EpollCtl(all, unix.EPOLL_CTL_DEL, l.polled.fd, nil); err != nil {
					return os.NewSyscallError("epoll_ctl", err)
				}
			}
		}
	}
	return nil
}

// await waits for events, a while at most. For the first millisecond, in which they mostly come, it does not tell the runtime: see raw.
func await(all int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(all), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 1, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	if n > 0 {
		return int(n), nil
	}
	return unix.EpollWait(all, events, 100)
}
