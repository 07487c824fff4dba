package h2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What RFC 9113 says of every connection that has not said anything else.
const (
	frameHead      = 9
	maxFrame       = 16 << 10
	firstWindow    = 65535
	firstTableSize = 4096
	maxWindow      = 1<<31 - 1
)

// What we say, and what we bound by ourselves.
const (
	// streamWindow is how much of a response a server may send before its caller reads.
	streamWindow = 1 << 20
	// connWindow is the window of a connection. It is given back as bytes come: the windows of the streams bound
	// what may wait, and a caller who does not read stops no other.
	connWindow = 16 << 20
	// maxHeaderBytes is the largest list of headers that is taken, as RFC 9113, section 6.5.2, counts it.
	maxHeaderBytes = 1 << 20
	// maxBlock is the largest block of headers, compressed, and maxFragments how many frames it may come in.
	maxBlock, maxFragments = 256 << 10, 128
	// firstStreams is how many streams are opened before the server has said how many it takes.
	firstStreams = 100
	// maxUnwritten is how many bytes may wait to be written before bodies wait, and maxOwed the same of what
	// a server asks for and does not read: answers to its PINGs and SETTINGS.
	maxUnwritten, maxOwed = 256 << 10, 1 << 20
	// maxKept is the largest buffer that is kept for the next write.
	maxKept = 64 << 10
	// lastStream is the last id that is used on a connection.
	lastStream = 1<<30 + 1
)

var settings = [...]http2.Setting{
	{ID: http2.SettingEnablePush, Val: 0},
	{ID: http2.SettingInitialWindowSize, Val: streamWindow},
	{ID: http2.SettingMaxHeaderListSize, Val: maxHeaderBytes},
}

// conn is one connection, as its client has it. One goroutine reads, and one writes what all others append: so
// what many calls have to say at once goes out in one write.
type conn struct {
	net.Conn
	idle *time.Timer

	// Of the reader alone.
	in      []byte
	decoder *hpack.Decoder
	fields  []hpack.HeaderField // of the block that is decoded
	size    int                 // of those, in bytes
	block   []byte              // fragments of a block whose end has not come
	blockOf uint32              // its stream; 0: none
	blockN  int                 // its frames
	blockE  bool                // it ends the stream
	taken   int                 // bytes of DATA that the connection's window lacks
	woken   []*stream           // those that have something new in what was read
	greeted bool                // its SETTINGS have come

	wake chan struct{} // of the writer
	over chan struct{} // closed when the connection has ended

	mu        sync.Mutex
	moved     sync.Cond // windows, or what is unwritten, have changed, or a stream has ended
	out       []byte    // not written yet
	handed    int64     // bytes before those: the kernel may have them
	spare     []byte
	owed      int // bytes of out that the server has asked for
	encoder   *hpack.Encoder
	encoded   bytes.Buffer
	streams   map[uint32]*stream
	next      uint32    // id
	window    int64     // of the connection, for what we send
	initial   int64     // of a stream, likewise
	limit     uint32    // of streams
	maxFields uint64    // bytes of headers that the server takes
	leaving   bool      // no new streams
	used      time.Time // when the last stream ended
	err       error     // why the connection has ended
}

func newConn(nc net.Conn, idleTimeout time.Duration) *conn {
	c := &conn{
		Conn: nc, in: make([]byte, 0, 2*maxFrame), wake: make(chan struct{}, 1), over: make(chan struct{}),
		streams: map[uint32]*stream{}, next: 1, window: firstWindow, initial: firstWindow, limit: firstStreams, maxFields: 1<<64 - 1, used: time.Now(),
	}
	c.moved.L = &c.mu
	c.encoder = hpack.NewEncoder(&c.encoded)
	c.decoder = hpack.NewDecoder(firstTableSize, c.field)
	c.decoder.SetMaxStringLength(maxHeaderBytes)
	c.out = append(c.out, http2.ClientPreface...)
	c.frame(http2.FrameSettings, 0, 0, 6*len(settings))
	for _, s := range settings {
		c.out = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(c.out, uint16(s.ID)), s.Val)
	}
	c.credit(0, connWindow-firstWindow)
	c.idle = time.AfterFunc(idleTimeout, func() { c.closeIdle(idleTimeout) })
	go c.write()
	go c.read()
	c.flush()
	return c
}

// closeIdle closes a connection without streams for that long.
func (c *conn) closeIdle(timeout time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch left := timeout - time.Since(c.used); {
	case c.err != nil:
	case len(c.streams) > 0:
		c.idle.Reset(timeout)
	case left > 0:
		c.idle.Reset(left)
	default:
		c.leave()
	}
}

// leave has the connection take no more streams, and end with the last of those it has; mu is held.
func (c *conn) leave() {
	c.leaving = true
	if len(c.streams) == 0 {
		c.failed(errIdle)
	}
}

// fail ends the connection and all its streams.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed(err)
}

func (c *conn) failed(err error) {
	if c.err != nil {
		return
	}
	c.err, c.leaving = err, true
	c.idle.Stop()
	for id, s := range c.streams {
		delete(c.streams, id)
		if s.from >= c.handed {
			s.end(fmt.Errorf("%w: %w", ErrUnsent, err))
		}
		s.end(err)
		s.cutShort()
		s.signal()
	}
	c.moved.Broadcast()
	close(c.over)
	go func() { _ = c.Close() }() // TLS says goodbye, which may take time
}

// frame appends the head of a frame; mu is held.
func (c *conn) frame(kind http2.FrameType, flags http2.Flags, id uint32, length int) {
	c.out = append(c.out, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// credit gives back part of a window; mu is held.
func (c *conn) credit(id uint32, n int) {
	c.frame(http2.FrameWindowUpdate, 0, id, 4)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(n))
}

// reset ends a stream at the server; mu is held.
func (c *conn) reset(id uint32, code http2.ErrCode) {
	c.frame(http2.FrameRSTStream, 0, id, 4)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(code))
}

// flush has what was appended be written.
func (c *conn) flush() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// write writes until the connection has ended.
func (c *conn) write() {
	for {
		select {
		case <-c.wake:
		case <-c.over:
			return
		}
		runtime.Gosched() // what can run now may have something to say as well
		c.mu.Lock()
		for len(c.out) > 0 && c.err == nil {
			batch := c.out
			c.handed += int64(len(batch))
			c.out, c.owed = c.spare[:0], 0
			c.mu.Unlock()
			_, err := c.Write(batch)
			c.mu.Lock()
			if c.spare = batch[:0]; cap(batch) > maxKept {
				c.spare = nil
			}
			if err != nil {
				c.failed(err)
			}
			c.moved.Broadcast()
		}
		c.mu.Unlock()
	}
}

// Errors of connections.
var (
	errIdle = errors.New("http2: the connection was idle")
	errLost = fmt.Errorf("http2: the server closed the connection: %w", io.ErrUnexpectedEOF)
)

// broken is an error of the server's that ends the connection.
func broken(code http2.ErrCode, format string, args ...any) error {
	return fmt.Errorf("http2: "+format+": %w", append(args, http2.ConnectionError(code))...)
}

// read reads frames until the connection has ended.
func (c *conn) read() {
	err := c.frames()
	var code http2.ConnectionError
	if errors.As(err, &code) {
		c.mu.Lock()
		c.leaving, c.out = true, nil // what was not written is not sent any more
		c.frame(http2.FrameGoAway, 0, 0, 8)
		last := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(c.out, 0), uint32(code))
		c.out = nil
		c.mu.Unlock()
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write(last)
	}
	c.fail(err)
}

func (c *conn) frames() error {
	for at := 0; ; {
		for len(c.in)-at >= frameHead {
			head := c.in[at:]
			length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
			if length > maxFrame {
				return broken(http2.ErrCodeFrameSize, "a frame of %d bytes", length)
			}
			if len(head) < frameHead+length {
				break
			}
			kind, flags, id := http2.FrameType(head[3]), http2.Flags(head[4]), binary.BigEndian.Uint32(head[5:])&maxWindow
			if kind != http2.FrameSettings && !c.greeted {
				return broken(http2.ErrCodeProtocol, "the first frame is no SETTINGS")
			}
			if err := c.took(kind, flags, id, head[frameHead:frameHead+length]); err != nil {
				return err
			}
			at += frameHead + length
		}
		c.tell()
		c.in, at = c.in[:copy(c.in, c.in[at:])], 0
		n, err := c.Read(c.in[len(c.in):cap(c.in)])
		c.in = c.in[:len(c.in)+n]
		switch {
		case n > 0:
		case errors.Is(err, io.EOF):
			return errLost
		case err != nil:
			return err
		}
	}
}

// tell wakes those who wait for what was read, and the writer.
func (c *conn) tell() {
	for i, s := range c.woken {
		s.told = false
		s.signal()
		c.woken[i] = nil
	}
	c.woken = c.woken[:0]
	c.mu.Lock()
	waiting := len(c.out) > 0
	c.mu.Unlock()
	if waiting {
		c.flush()
	}
}
