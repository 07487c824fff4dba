// Package logbuffer keeps a server from waiting for whoever reads its log, such as a collector that is frozen.
package logbuffer

import (
	"io"
	"sync"
	"time"
)

// room is how much may wait to be written, in bytes: some thousand lines.
const room = 1 << 20

// Buffer is a writer that does not wait, and does not fail. A goroutine writes what it is given, in that order. It is safe
// for concurrent use.
type Buffer struct {
	out  io.Writer
	lost func(lines int)

	mu      sync.Mutex
	waiting []byte
	dropped int           // lines for which there was no room
	written chan struct{} // closed when nothing waits any more; nil: that is so
}

// New returns a Buffer that writes to out. As long as out does not take anything, lines are dropped for which there is
// no room. When it has taken something, lost is told how many they were, and may write that here.
func New(out io.Writer, lost func(lines int)) *Buffer { return &Buffer{out: out, lost: lost} }

// Write implements io.Writer. It is given one line, or several, which are kept or dropped together.
func (b *Buffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting)+len(line) > room {
		b.dropped++
		return len(line), nil
	}
	b.waiting = append(b.waiting, line...)
	if b.written == nil {
		b.written = make(chan struct{})
		go b.run()
	}
	return len(line), nil
}

// run writes until nothing waits.
func (b *Buffer) run() {
	for {
		lines, dropped := b.take()
		if dropped > 0 {
			b.lost(dropped) // now, while there is room
		}
		if lines != nil {
			_, _ = b.out.Write(lines) // whom would we tell?
		} else if dropped == 0 {
			return
		}
	}
}

// take returns what waits, and how many lines were dropped. If that is nothing, all is written.
func (b *Buffer) take() (lines []byte, dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines, b.waiting = b.waiting, nil
	dropped, b.dropped = b.dropped, 0
	if lines == nil && dropped == 0 {
		close(b.written)
		b.written = nil
	}
	return lines, dropped
}

// Flush waits until all is written, for d at most, and tells whether it is.
func (b *Buffer) Flush(d time.Duration) bool {
	b.mu.Lock()
	written := b.written
	b.mu.Unlock()
	if written == nil {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-written:
		return true
	case <-timer.C:
		return false
	}
}
