package gateway_test

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// fullBacklog is a listener whose queue is full: Linux drops what else comes.
func fullBacklog(tb testing.TB) (addr string) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	if controlErr := raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }); controlErr != nil || err != nil {
		tb.Skipf("the backlog cannot be made small: %v, %v", controlErr, err)
	}
	dialer := net.Dialer{Timeout: 100 * time.Millisecond}
	for range 16 {
		conn, err := dialer.DialContext(tb.Context(), "tcp", ln.Addr().String())
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return ln.Addr().String()
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return ln.Addr().String()
		}
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = conn.Close() })
	}
	tb.Skip("this system answers every SYN, however full the backlog is")
	return ""
}
