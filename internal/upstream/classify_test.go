package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// A failed write means that HTTP/1.1 did not send the request, even if its body
// was taken into a buffer: the connection is that request's alone. On HTTP/2 it may
// be another request's, or come after. Which of both errors a reset brings is a race
// of the kernel's, so this is told of the errors themselves.
func TestFailedWrite(t *testing.T) {
	t.Parallel()
	op := func(what string) error {
		return fmt.Errorf("layer: %w", &net.OpError{Op: what, Err: &os.SyscallError{Syscall: what, Err: syscall.ECONNRESET}})
	}
	for _, c := range []struct {
		err   error
		taken bool
		major int
		want  Kind
	}{
		{op("write"), true, 1, NotSent},
		{op("read"), true, 1, Broken},
		{op("write"), true, 2, Broken},
		{op("read"), false, 1, NotSent},
		{op("read"), false, 2, NotSent},
		{&net.OpError{Op: "readfrom", Err: op("write")}, true, 1, NotSent},
		{errors.New("else"), true, 1, Broken},
	} {
		if got := ofError(t.Context(), c.err, c.taken, c.major); got.Kind != c.want {
			t.Errorf("%v, taken %t, HTTP/%d: got kind %d, want %d", c.err, c.taken, c.major, got.Kind, c.want)
		}
	}
}

// A stream may hold a whole message from its first byte on; a unary request that
// streams, because it is large, holds one when it has ended.
func TestStreamTaken(t *testing.T) {
	t.Parallel()
	for _, unary := range []bool{false, true} {
		s := &sending{Stream: NewStream(strings.NewReader("message"), unary), sent: &sent{}, over: make(chan struct{})}
		_, _ = s.Read(make([]byte, 3))
		if got, want := s.taken.Load(), !unary; got != want {
			t.Errorf("unary %t, after some bytes: taken %t, want %t", unary, got, want)
		}
		_, _ = io.Copy(io.Discard, s)
		if !s.taken.Load() {
			t.Errorf("unary %t, at the end: not taken", unary)
		}
	}
}

// A process without file descriptors does not blame whom it calls.
func TestCauseIsOurs(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE} {
		dial := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", errno)}
		for _, err := range []error{dial, &net.DNSError{UnwrapErr: dial, Err: dial.Error()}} {
			if got := causeOf(fmt.Errorf("round trip: %w", err)); got != NoDescriptors {
				t.Errorf("%v: got %q, want %q", err, got, NoDescriptors)
			}
		}
	}
}
