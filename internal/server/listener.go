package server

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"holdline/internal/logonce"
)

// Connections beyond the limit are accepted too. On them we answer health checks, and refuse all other calls
// with unavailable.
const (
	maxBeyond  = 64              // at once; if one more comes, the oldest is cut
	beyondTime = 2 * time.Second // after this time, such a connection is cut
)

// spareDescriptors is how many file descriptors we keep for new connections. Connections to services can take
// all others, and health checks must still be answered.
const spareDescriptors = 8

// listener counts the connections that it accepts, and marks those beyond the limit.
type listener struct {
	net.Listener
	most      int
	raise     string // the flag or setting that raises that limit
	log       *logonce.Logger
	lingering sync.WaitGroup
	over      bool // wait was called: closed connections no longer linger
	spares    chan *os.File

	crowded atomic.Bool // there are connections beyond the limit
	mu      sync.Mutex
	within  int
	beyond  []*conn // oldest first
}

// linger runs end in the background. Once wait was called, linger does not run end, and returns false.
func (l *listener) linger(end func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.lingering.Go(end)
	}
	return !l.over
}

// wait waits for the connections that linger. Connections that are closed from now on end at once.
func (l *listener) wait() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.lingering.Wait()
}

// MoreDescriptors names the settings that give a process more file descriptors.
const MoreDescriptors = "ulimit -n (systemd: LimitNOFILE, Docker: --ulimit nofile)"

// fitting returns a limit of connections, and the flag or setting that raises it. It leaves a quarter of the process's file descriptors for its own connections, such as those to services.
// Otherwise callers could take all file descriptors, and the services would seem to be away.
func fitting(most int, log *logonce.Logger) (limit int, raise string) {
	var descriptors syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &descriptors); err != nil || uint64(most) <= descriptors.Cur/4*3 { //nolint:gosec // it is not negative
		return most, "--max-connections"
	}
	fit := int(descriptors.Cur / 4 * 3) //nolint:gosec // it is less than most
	log.Warn("fitting", "connection limit lowered: there are not more file descriptors", "limit", fit, "asked", most, "raise", MoreDescriptors)
	return fit, MoreDescriptors
}

func listenLimited(flag, addr string, most int, raise string, log *logonce.Logger) (*listener, error) {
	ln, err := listen(flag, addr)
	if err != nil {
		return nil, err
	}
	l := &listener{Listener: ln, most: most, raise: raise, log: log, spares: make(chan *os.File, spareDescriptors)}
	l.refill()
	return l, nil
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	accepted, scarce, err := l.accept()
	tcp, ok := accepted.(*net.TCPConn)
	if err != nil || !ok {
		return accepted, err
	}
	c := &conn{TCPConn: tcp, bytes: tcp, listener: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.within < l.most && !scarce {
		l.within++
		return c, nil
	}
	if !scarce {
		l.log.Warn("connections", "connection limit reached; only health is told to more", "address", l.Addr(), "limit", l.most, "raise", l.raise)
	}
	if len(l.beyond) == maxBeyond {
		l.beyond[0].cut()
		l.remove(0)
	}
	c.spare = time.AfterFunc(beyondTime, c.cut)
	l.beyond = append(l.beyond, c)
	l.crowded.Store(true)
	return c, nil
}

// accept accepts a connection. It is scarce if no descriptor was left and makeRoom had to free one.
func (l *listener) accept() (accepted net.Conn, scarce bool, err error) {
	for {
		accepted, err = l.Listener.Accept()
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
			return accepted, scarce, err
		}
		l.log.Warn("descriptors", "no file descriptors left for connections; only health is told",
			"address", l.Addr(), "raise", MoreDescriptors, "error", err)
		if scarce = l.makeRoom(); !scarce {
			return nil, false, err // net/http waits, and tries again
		}
	}
}

// makeRoom frees a file descriptor: a spare one, or the one of the oldest connection beyond the limit. It returns
// false if there is neither.
func (l *listener) makeRoom() bool {
	select {
	case spare := <-l.spares:
		_ = spare.Close()
		return true
	default:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.beyond) == 0 {
		return false
	}
	l.beyond[0].cut()
	l.remove(0)
	return true
}

// refill opens spare descriptors until there are enough, or the process has no more.
func (l *listener) refill() {
	for len(l.spares) < cap(l.spares) {
		spare, err := os.Open(os.DevNull)
		if err != nil {
			return
		}
		select {
		case l.spares <- spare:
		default:
			_ = spare.Close()
		}
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	err := l.Listener.Close()
	for {
		select {
		case spare := <-l.spares:
			_ = spare.Close()
		default:
			return err
		}
	}
}

// admit tells whether a connection counts within the limit. A connection beyond the limit moves within it if there is room.
func (l *listener) admit(c *conn) bool {
	if c == nil || c.spare == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.admitted {
		return true
	}
	at := slices.Index(l.beyond, c)
	if at < 0 || l.within >= l.most || len(l.spares) < cap(l.spares) || !c.spare.Stop() {
		return false
	}
	l.remove(at)
	l.within++
	c.admitted = true
	return true
}

// release is called once for each connection that has ended.
func (l *listener) release(c *conn) {
	l.refill()
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.spare == nil || c.admitted {
		l.within--
		return
	}
	c.spare.Stop()
	if at := slices.Index(l.beyond, c); at >= 0 {
		l.remove(at)
	}
}

func (l *listener) remove(at int) {
	l.beyond = slices.Delete(l.beyond, at, at+1)
	l.crowded.Store(len(l.beyond) > 0)
}
