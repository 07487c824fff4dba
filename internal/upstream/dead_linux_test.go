package upstream

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// deafen has the kernel drop whatever comes on a connection, as a router does that has forgotten it.
func deafen(t *testing.T, conn net.Conn) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	if err := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	}); err != nil {
		t.Fatal(err)
	}
}

// A connection that has lost its path is cut long before the kernel gives it up, and the next call has another one, though
// the endpoint was heard all the time.
func TestDeadConnection(t *testing.T) {
	t.Parallel()
	for _, major := range []int{1, 2} {
		var mu sync.Mutex
		var conns []net.Conn
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "{}")
		}))
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetHTTP1(major == 1)
		server.Config.Protocols.SetUnencryptedHTTP2(major == 2)
		server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
			if state == http.StateNew {
				mu.Lock()
				defer mu.Unlock()
				conns = append(conns, conn)
			}
		}
		server.Start()
		t.Cleanup(server.Close)
		e := (*openPool(t, nil, server.URL).endpoints.Load())[0]
		if got := post(t, e, major, "message", false); got != (Outcome{}) {
			t.Fatalf("HTTP/%d: got %+v, want an answer", major, got)
		}
		mu.Lock()
		for _, conn := range conns {
			deafen(t, conn)
		}
		mu.Unlock()
		if got := post(t, e, major, "message", false); got != (Outcome{Broken, "unacknowledged"}) {
			t.Errorf("HTTP/%d, over a dead connection: got %+v, want it cut", major, got)
		}
		if got := post(t, e, major, "message", false); got != (Outcome{}) {
			t.Errorf("HTTP/%d, after that: got %+v, want an answer", major, got)
		}
	}
}

// A service that does not read for a while, so that its window is closed, has a kernel that says so.
func TestUnreadIsNotDead(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/a.B/C" { // a question
			return
		}
		time.Sleep(7 * time.Second) // longer than maxRetransmits take
		_, _ = io.Copy(w, io.LimitReader(r.Body, 2))
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	t.Cleanup(server.Close)
	e := (*openPool(t, nil, server.URL).endpoints.Load())[0]
	if got := post(t, e, 1, strings.Repeat("x", 16<<20), true); got != (Outcome{}) {
		t.Errorf("got %+v, want an answer", got)
	}
}
