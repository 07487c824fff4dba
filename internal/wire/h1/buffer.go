package h1

import (
	"errors"
	"io"
	"os"

	"holdline/internal/wire"
)

// buffer has what was read of a connection and is not used yet. Without that it keeps no memory.
type buffer struct {
	all []byte
	at  int   // where the unread begins
	err error // that has ended reading
}

func (b *buffer) unread() []byte { return b.all[b.at:] }

// use drops bytes. What was read of them may be overwritten from then on.
func (b *buffer) use(n int) {
	wire.Poison(b.all[b.at : b.at+n])
	if b.at += n; b.at < len(b.all) {
		return
	}
	wire.GiveBack(b.all)
	b.all, b.at = nil, 0
}

// expect makes room for n bytes that are unread.
func (b *buffer) expect(n int) {
	if n > cap(b.all)-b.at {
		larger := append(wire.Room(nil, n), b.unread()...)
		wire.GiveBack(b.all)
		b.all, b.at = larger, 0
	}
}

// fill reads once. An error ends reading, unless it is that of a deadline.
func (b *buffer) fill(from io.Reader) error {
	if b.err != nil {
		return b.err
	}
	if len(b.all) == cap(b.all) {
		b.expect(max(wire.MinRoom, 2*len(b.unread())))
	}
	n, err := from.Read(b.all[len(b.all):cap(b.all)])
	b.all = b.all[:len(b.all)+n]
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && n == 0:
		return err
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		b.err = err
	}
	if n > 0 {
		return nil
	}
	return err
}

// take is a Read of what is unread. If there is nothing, it returns the error that has ended reading; or else false. What is
// read stays as it is: a call that was begun may still have its body there.
func (b *buffer) take(p []byte) (n int, err error, ok bool) {
	if n = copy(p, b.unread()); n == 0 {
		return 0, b.err, b.err != nil || len(p) == 0
	}
	if b.at += n; b.at == len(b.all) {
		b.all, b.at = nil, 0
	}
	return n, nil, true
}
