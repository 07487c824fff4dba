package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"holdline/internal/wire"
)

// pair returns both ends of a connection.
func pair(tb testing.TB, network string) (ours, theirs net.Conn) {
	tb.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(tb.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if ours, err = net.Dial(network, ln.Addr().String()); err != nil {
		tb.Fatal(err)
	}
	if theirs, err = ln.Accept(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	return ours, theirs
}

// A connection reads, writes and fails as it did before.
func TestNonBlocking(t *testing.T) {
	t.Parallel()
	full := func(c net.Conn) (int, error) {
		for {
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				return 0, err // how much went is the kernel's
			}
		}
	}
	for name, do := range map[string]func(ours, theirs net.Conn) (int, error){
		"nothing to read":  func(ours, _ net.Conn) (int, error) { return ours.Read(nil) },
		"nothing to write": func(ours, _ net.Conn) (int, error) { return ours.Write(nil) },
		"end": func(ours, theirs net.Conn) (int, error) {
			_ = theirs.Close()
			return ours.Read(make([]byte, 8))
		},
		"reset": func(ours, theirs net.Conn) (int, error) {
			if tcp, ok := theirs.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = theirs.Close()
			return ours.Read(make([]byte, 8))
		},
		"write to one that is gone": func(ours, theirs net.Conn) (int, error) {
			_ = theirs.Close()
			return full(ours)
		},
		"no time to read": func(ours, _ net.Conn) (int, error) {
			_ = ours.SetReadDeadline(time.Now().Add(time.Millisecond))
			return ours.Read(make([]byte, 8))
		},
		"no time to write": func(ours, _ net.Conn) (int, error) {
			_ = ours.SetWriteDeadline(time.Now().Add(time.Millisecond))
			return full(ours)
		},
		"closed": func(ours, _ net.Conn) (int, error) {
			_ = ours.Close()
			return ours.Read(make([]byte, 8))
		},
		"closed while it reads": func(ours, _ net.Conn) (int, error) {
			time.AfterFunc(time.Millisecond, func() { _ = ours.Close() })
			return ours.Read(make([]byte, 8))
		},
		"closed while it writes": func(ours, _ net.Conn) (int, error) {
			time.AfterFunc(time.Millisecond, func() { _ = ours.Close() })
			return full(ours)
		},
	} {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(name+"/"+network, func(t *testing.T) {
				t.Parallel()
				ours, theirs := pair(t, network)
				wantN, want := do(ours, theirs)
				ours, theirs = pair(t, network)
				n, err := do(wire.NonBlocking(ours), theirs)
				if n != wantN || !alike(err, want) {
					t.Errorf("got %d, %#v; want %d, %#v", n, err, wantN, want)
				}
			})
		}
	}
}

// alike tells whether two errors are the same but for the addresses.
func alike(got, want error) bool {
	a, isA := errors.AsType[*net.OpError](got)
	b, isB := errors.AsType[*net.OpError](want)
	if !isA || !isB {
		return errors.Is(got, want)
	}
	return a.Op == b.Op && a.Net == b.Net && reflect.DeepEqual(a.Err, b.Err) && (a.Source == nil) == (b.Source == nil) && (a.Addr == nil) == (b.Addr == nil)
}

// All that is written is read, both ways at once, with buffers that are smaller and larger than one system call moves.
func TestNonBlockingMovesAll(t *testing.T) {
	t.Parallel()
	ours, theirs := pair(t, "tcp")
	ends := []net.Conn{wire.NonBlocking(ours), wire.NonBlocking(theirs)}
	want := bytes.Repeat([]byte("0123456789abcdefg"), 300_000)
	errs := make(chan error)
	for i, size := range []int{1000, 300 << 10} {
		go func() {
			for rest := want; len(rest) > 0; {
				some := rest[:min(len(rest), size)]
				if n, err := ends[i].Write(some); n != len(some) || err != nil {
					errs <- fmt.Errorf("%d of %d bytes, %w", n, len(some), err)
					return
				}
				rest = rest[len(some):]
			}
			errs <- nil
		}()
		go func() {
			got := make([]byte, len(want))
			_, err := io.ReadFull(ends[i], got)
			if err == nil && !bytes.Equal(got, want) {
				err = errors.New("other bytes came")
			}
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
