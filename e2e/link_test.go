package e2e

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// link is a way over TCP to a server, that can be bad.
type link struct {
	addr        string
	network, to string

	mu    sync.Mutex
	late  time.Duration // each piece of data, each way
	hole  chan struct{} // what is sent waits for its end; nil: there is none
	conns map[net.Conn]net.Conn
	ended chan struct{}
	pumps sync.WaitGroup
}

// newLink listens until the test ends. The server is at unix:///path or host:port.
func newLink(tb testing.TB, url string) *link {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	l := &link{
		addr: ln.Addr().String(), network: "tcp", to: url,
		conns: map[net.Conn]net.Conn{}, ended: make(chan struct{}),
	}
	if path, ok := strings.CutPrefix(url, "unix://"); ok {
		l.network, l.to = "unix", path
	}
	l.pumps.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			l.pumps.Go(func() { l.carry(conn) })
		}
	})
	tb.Cleanup(func() {
		_ = ln.Close()
		close(l.ended)
		l.reset()
		l.pumps.Wait()
	})
	return l
}

// carry carries one connection until either end closes it.
func (l *link) carry(near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial(l.network, l.to)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	l.mu.Lock()
	l.conns[near] = far
	l.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() { l.pump(near, far) })
	l.pump(far, near)
	back.Wait()
	l.mu.Lock()
	delete(l.conns, near)
	l.mu.Unlock()
}

func (l *link) pump(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	piece := make([]byte, 64<<10)
	for {
		n, err := from.Read(piece)
		if err != nil || !l.pass() {
			return
		}
		if _, err := to.Write(piece[:n]); err != nil {
			return
		}
	}
}

// pass waits until a piece may go on; false when the link is at its end.
func (l *link) pass() bool {
	l.mu.Lock()
	late, hole := l.late, l.hole
	l.mu.Unlock()
	if late > 0 {
		select {
		case <-time.After(late):
		case <-l.ended:
		}
	}
	if hole != nil {
		select {
		case <-hole:
		case <-l.ended:
		}
	}
	select {
	case <-l.ended:
		return false
	default:
		return true
	}
}

// slow makes everything late.
func (l *link) slow(late time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late = late
}

// blackHole lets nothing through, and says nothing.
func (l *link) blackHole() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hole == nil {
		l.hole = make(chan struct{})
	}
}

// heal ends what makes it bad. What was lost in a black hole arrives now, as if
// it had been sent again.
func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late = 0
	if l.hole != nil {
		close(l.hole)
		l.hole = nil
	}
}

// reset breaks all connections.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for near, far := range l.conns {
		_ = near.(*net.TCPConn).SetLinger(0)
		_, _ = near.Close(), far.Close()
	}
}
