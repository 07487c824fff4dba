//go:build unix

package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// maxTransfer is how many bytes one system call moves at most: while it runs, the runtime can neither collect garbage nor let another
// goroutine run there.
const maxTransfer = 64 << 10

// NonBlocking returns a connection that is read and written by system calls of which the runtime is not told (transfer_linux.go).
// It has a SyscallConn. One without is returned as it is.
func NonBlocking(c net.Conn) net.Conn {
	under, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	raw, err := under.SyscallConn()
	if err != nil {
		return c // it is closed
	}
	n := &nonBlocking{Conn: c, raw: raw}
	n.in.step, n.out.step = n.in.read, n.out.write
	return n
}

// nonBlocking is such a connection.
type nonBlocking struct {
	net.Conn
	raw     syscall.RawConn
	in, out transfer
}

// Read implements net.Conn.
func (c *nonBlocking) Read(p []byte) (int, error) {
	n, err := c.in.run(c.raw.Read, p)
	if n == 0 && err == nil && len(p) > 0 {
		return 0, io.EOF
	}
	return n, c.as("read", err)
}

// Write implements net.Conn.
func (c *nonBlocking) Write(p []byte) (int, error) {
	n, err := c.out.run(c.raw.Write, p)
	return n, c.as("write", err)
}

// as has an error say what net's own would.
func (c *nonBlocking) as(op string, err error) error {
	if err == nil {
		return nil
	}
	if of, ok := errors.AsType[*net.OpError](err); ok { // of the poller
		err = of.Err
	} else {
		err = os.NewSyscallError(op, err)
	}
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// SyscallConn implements syscall.Conn.
func (c *nonBlocking) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// transfer is one direction.
type transfer struct {
	mu   sync.Mutex // held by the one who reads, or writes
	rest []byte
	n    int
	err  error
	step func(fd uintptr) (over bool)
}

// run moves bytes with do, which waits between the steps.
func (t *transfer) run(do func(step func(fd uintptr) bool) error, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rest, t.n, t.err = p, 0, nil
	err := do(t.step)
	if t.rest = nil; err == nil {
		err = t.err
	}
	return t.n, err
}

func (t *transfer) read(fd uintptr) (over bool) { return t.move(sysRead, fd) }

func (t *transfer) write(fd uintptr) (over bool) {
	for {
		if over = t.move(sysWrite, fd); !over || t.err != nil || len(t.rest) == 0 {
			return over
		}
	}
}

// move does one system call. It returns false when that would have to wait.
func (t *transfer) move(call func(fd uintptr, p []byte) (int, syscall.Errno), fd uintptr) bool {
	for {
		n, err := call(fd, t.rest[:min(len(t.rest), maxTransfer)])
		switch err {
		case 0:
			t.n += n
			t.rest = t.rest[n:]
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			t.err = err
			return true
		}
	}
}
