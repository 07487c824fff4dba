package server

import (
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"holdline/internal/logonce"
)

// Connections beyond the limit are taken all the same, to tell of the server's
// health, and to tell all others to come again: so many at once, of which the oldest
// makes room for one more, and none longer than this.
const (
	maxBeyond  = 64
	beyondTime = 2 * time.Second
)

// listener counts the connections that it accepts, and marks those beyond the limit.
type listener struct {
	net.Listener
	most      int
	log       *logonce.Logger
	lingering sync.WaitGroup

	crowded atomic.Bool // there are connections beyond the limit
	mu      sync.Mutex
	within  int
	beyond  []*conn // oldest first
}

func listenLimited(addr string, most int, log *logonce.Logger) (*listener, error) {
	ln, err := listen(addr)
	if err != nil {
		return nil, err
	}
	return &listener{Listener: ln, most: most, log: log}, nil
}

// Accept implements net.Listener. Callers of it wait and try again when there are
// no file descriptors.
func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			l.log.Warn("descriptors", "no file descriptor left for a connection",
				"address", l.Addr(), "raise", "ulimit -n, LimitNOFILE, --ulimit nofile", "error", err)
		}
		return nil, err
	}
	tcp, ok := accepted.(*net.TCPConn)
	if !ok {
		return accepted, nil
	}
	c := &conn{TCPConn: tcp, listener: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.within < l.most {
		l.within++
		return c, nil
	}
	l.log.Warn("connections", "connection limit reached; only health is told to more", "address", l.Addr(), "limit", l.most, "raise", "--max-connections")
	if len(l.beyond) == maxBeyond {
		l.beyond[0].cut()
	}
	c.spare = time.AfterFunc(beyondTime, c.cut)
	l.beyond = append(l.beyond, c)
	l.crowded.Store(true)
	return c, nil
}

// admit tells whether a connection is within the limit by now.
func (l *listener) admit(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.Index(l.beyond, c)
	if at >= 0 && l.within < l.most && c.spare.Stop() {
		l.remove(at)
		l.within++
		return true
	}
	return at < 0
}

// release is called once for each connection that has ended.
func (l *listener) release(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := slices.Index(l.beyond, c); at >= 0 {
		c.spare.Stop()
		l.remove(at)
		return
	}
	l.within--
}

func (l *listener) remove(at int) {
	l.beyond = slices.Delete(l.beyond, at, at+1)
	l.crowded.Store(len(l.beyond) > 0)
}
