package h2

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/net/http2"

	"holdline/internal/wire"
)

// flow is one stream: the bytes that come, and those that go. The link's mutex guards it.
type flow struct {
	l     *link
	owner owner
	id    uint32
	news  chan struct{} // something has come; one waits at a time
	told  bool          // of the link's reader: it is noted

	// What we send.
	window int64
	sent   bool // nothing more follows

	// What comes.
	length int64 // bytes that are still to come; -1 without a content-length
	room   int   // what the other side may still send
	unpaid int   // what was read, and not given back to the other side
	in     []byte
	small  [128]byte // most messages fit, and need no other place
	at     int       // what was read of in
	lent   bool      // somebody has in, too
	whole  bool      // all of it has come
	late   bool      // a Read waits no longer
	err    error     // what ended it before that
}

// owner is what the client and the server do differently with a stream. mu is held in all its methods.
type owner interface {
	// data tells what is wrong with bytes of a body that have come; empty: nothing.
	data(n int) (flaw string)
	// ended is told that the other side has sent all.
	ended()
	// removed is told that the link has forgotten the stream. Nothing is sent any more.
	removed()
}

// signals are what streams wait for that nobody waits for any more. They may still be signalled.
var signals = sync.Pool{New: func() any { return make(chan struct{}, 1) }}

// recycle is for a stream of which only the caller of recycle has ever waited for news.
func (f *flow) recycle() {
	select {
	case <-f.news:
	default:
	}
	signals.Put(f.news)
}

// begin makes a stream of the link; mu is held.
func (f *flow) begin(l *link, owner owner, id uint32) {
	*f = flow{l: l, owner: owner, id: id, news: signals.Get().(chan struct{}), window: l.initial, length: -1, room: l.streamWindow}
	f.in = f.small[:0]
	l.streams[id] = f
}

// signal has the one who waits look.
func (f *flow) signal() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// fail is for a stream that ends before it is whole. The first reason counts. mu is held.
func (f *flow) fail(err error) {
	if f.err == nil && !f.whole {
		f.err = err
	}
}

// live tells whether the link still knows the stream; mu is held.
func (f *flow) live() bool { return f.l.streams[f.id] == f }

// breakOff ends the stream at the other side, and what comes of it with an error; mu is held.
func (f *flow) breakOff(code http2.ErrCode, err error) {
	f.fail(err)
	if f.live() {
		f.l.reset(f.id, code)
		f.l.remove(f)
		f.l.flush()
	}
	f.signal()
}

// errClosed is what a body says that its reader has closed.
var errClosed = errors.New("http2: the body was closed")

// receive is io.Reader's Read for what comes. At the end, it is io.EOF, with the last bytes if it can.
func (f *flow) receive(p []byte) (int, error) {
	l := f.l
	l.mu.Lock()
	for {
		switch {
		case f.late:
			l.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case f.at < len(f.in) && f.err != errClosed: //nolint:errorlint // it is never wrapped
			n := copy(p, f.in[f.at:])
			if f.at += n; f.at == len(f.in) {
				if f.at = 0; !f.lent {
					wire.GiveBack(f.in)
				}
				f.in = f.small[:0]
			}
			f.read(n)
			done := f.whole && len(f.in) == 0
			l.mu.Unlock()
			if done {
				return n, io.EOF
			}
			return n, nil
		case f.err != nil:
			err := f.err
			l.mu.Unlock()
			return 0, err
		case f.whole:
			l.mu.Unlock()
			return 0, io.EOF
		}
		l.mu.Unlock()
		<-f.news
		l.mu.Lock()
	}
}

// rest is what is left of a small body that has come whole, which belongs to the caller of rest then; mu is held.
func (f *flow) rest() (body []byte, ok bool) {
	if !f.whole || f.late || f.err != nil || len(f.in) > wire.MaxPlain { // a larger one may be given back
		return nil, false
	}
	body, f.in, f.at = f.in[f.at:], nil, 0
	f.read(len(body))
	return body, true
}

// read has the other side get credit for bytes that were read; mu is held.
func (f *flow) read(n int) {
	l := f.l
	if !l.creditAtOnce && f.live() {
		l.giveBack(n)
	}
	if f.unpaid += n; f.unpaid >= l.streamWindow/4 && !f.whole && f.err == nil {
		l.credit(f.id, f.unpaid)
		f.room += f.unpaid
		f.unpaid = 0
		l.flush()
	}
}

// waitForWriter waits while there is much to be written, so that who does not read keeps no more of us than that; false when the
// stream has ended. mu is held, but not while it waits.
func (f *flow) waitForWriter() bool {
	for !f.sent && len(f.l.out) > maxUnwritten {
		f.l.flush()
		f.l.moved.Wait()
	}
	return !f.sent
}

// push appends part of a body as the windows allow; end: and the end of the stream. It returns false when the stream has
// ended before. mu is held, but not while it waits.
func (f *flow) push(part []byte, end bool) bool {
	l := f.l
	for f.waitForWriter() {
		n := max(0, min(int64(len(part)), l.window, f.window, maxFrame))
		if len(part) > 0 && n == 0 {
			l.flush()
			l.moved.Wait()
			continue
		}
		last, flags := int(n) == len(part), http2.Flags(0)
		if last && end {
			flags, f.sent = http2.FlagDataEndStream, true
		}
		if n > 0 || end {
			l.out = wire.Room(l.out, frameHead+int(n))
			l.frame(http2.FrameData, flags, f.id, int(n))
			l.out = append(l.out, part[:n]...)
			l.window -= n
			f.window -= n
		}
		if part = part[n:]; last {
			return true
		}
	}
	return false
}

// malformed is the error of a stream in which the other side has not kept to the protocol.
func malformed(id uint32, code http2.ErrCode, flaw string) error {
	return http2.StreamError{StreamID: id, Code: code, Cause: errors.New("http2: malformed: " + flaw)}
}
