package upstream

import (
	"net"
	"net/url"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A node that is cut off acknowledges nothing: its idle connections break after a
// while. (swarm/nodes.sh cuts one off.)
func TestSilenceIsLimited(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	dialled, err := newEndpoint(openPool(t, nil), &url.URL{Scheme: "http", Host: ln.Addr().String()}, "").dialer(1)(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dialled.Close() }()
	raw, err := dialled.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	option := func(number int) (value int) {
		if err := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, number) }); err != nil {
			t.Fatal(err)
		}
		return value
	}
	limit := keepAliveAfter + keepAliveFor
	if got := time.Duration(option(unix.TCP_USER_TIMEOUT)) * time.Millisecond; got != limit {
		t.Errorf("with a request on its way a silent connection is kept for %v, want %v", got, limit)
	}
	idle := time.Duration(option(unix.TCP_KEEPIDLE)+option(unix.TCP_KEEPINTVL)*option(unix.TCP_KEEPCNT)) * time.Second
	if idle != limit {
		t.Errorf("without one it is kept for %v, want %v", idle, limit)
	}
}
