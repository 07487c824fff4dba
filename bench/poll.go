package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// polledConn is a connection that Go's scheduler knows nothing of. Who reads or writes where that cannot be done at once
// keeps a thread.
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
	controlled := raw.Control(func(fd uintptr) {
		if c.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(c.fd, false)
		}
	})
	return c, errors.Join(controlled, err)
}

// Read implements net.Conn.
func (c *polledConn) Read(b []byte) (int, error) {
	for {
		switch n, err := unix.Read(c.fd, b); {
		case err == nil && n == 0:
			return 0, io.EOF
		case !errors.Is(err, unix.EINTR):
			return max(n, 0), os.NewSyscallError("read", err)
		}
	}
}

// Write implements net.Conn.
func (c *polledConn) Write(b []byte) (wrote int, err error) {
	for wrote < len(b) {
		n, err := unix.Write(c.fd, b[wrote:])
		if wrote += max(n, 0); err != nil && !errors.Is(err, unix.EINTR) {
			return wrote, os.NewSyscallError("write", err)
		}
	}
	return wrote, nil
}

// SetDeadline implements net.Conn: no read and no write begins then to wait for longer.
func (c *polledConn) SetDeadline(at time.Time) error {
	left := unix.NsecToTimeval(max(time.Until(at), time.Millisecond).Nanoseconds())
	return os.NewSyscallError("setsockopt", errors.Join(
		unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &left),
		unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &left)))
}

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
		n, err := unix.EpollWait(all, events, int(max(time.Until(last), time.Millisecond).Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return os.NewSyscallError("epoll_wait", err)
		case n == 0:
			return fmt.Errorf("%d connections have no answer", open)
		}
		for _, event := range events[:n] {
			l := loads[event.Fd]
			l.step(end)
			for l.open > 0 && l.caller.pending() {
				l.step(end)
			}
			if l.open > 0 {
				l.flush()
			}
			if l.open == 0 {
				open--
				if err := unix.EpollCtl(all, unix.EPOLL_CTL_DEL, l.polled.fd, nil); err != nil {
					return os.NewSyscallError("epoll_ctl", err)
				}
			}
		}
	}
	return nil
}
