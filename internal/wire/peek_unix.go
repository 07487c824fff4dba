//go:build unix

package wire

import (
	"crypto/tls"
	"net"
	"syscall"
)

// Peeker looks at a connection without reading. It is not safe for concurrent use.
type Peeker struct {
	raw   syscall.RawConn // nil: it can't be looked at
	look  func(fd uintptr)
	await func(fd uintptr) (over bool)
	seen  Come
	slept bool
	one   [1]byte
}

// NewPeeker returns one for a connection. Where that speaks TLS, its records are what is looked at.
func NewPeeker(c net.Conn) *Peeker {
	p := new(Peeker)
	if over, ok := c.(*tls.Conn); ok {
		c = over.NetConn()
	}
	if under, ok := c.(syscall.Conn); ok {
		p.raw, _ = under.SyscallConn()
	}
	p.look = func(fd uintptr) {
		switch n, err := sysPeek(fd, p.one[:]); {
		case n > 0:
			p.seen = Something
		case err == syscall.EAGAIN:
			p.seen = Nothing
		}
	}
	p.await = func(fd uintptr) bool {
		if p.slept {
			return true
		}
		p.slept = true
		p.look(fd)
		return p.seen != Nothing
	}
	return p
}

// Peek does not wait, and no deadline matters.
func (p *Peeker) Peek() Come {
	if p.raw == nil {
		return Nothing
	}
	p.seen = End
	_ = p.raw.Control(p.look) // of a connection that was closed it sees nothing
	return p.seen
}

// Wait waits until something has come, so that nobody needs a buffer before that. It ends at the deadline for reading, with its error. Where it
// cannot look, it does not wait. p may be nil.
func (p *Peeker) Wait() error {
	if p == nil || p.raw == nil {
		return nil
	}
	p.seen, p.slept = End, false
	return p.raw.Read(p.await)
}
