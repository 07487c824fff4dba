package h2

import (
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

	"holdline/internal/wire"
)

// What RFC 9113 says of every connection that has not said anything else.
const (
	frameHead      = 9
	maxFrame       = 16 << 10
	firstWindow    = 65535
	firstTableSize = 4096
	maxWindow      = 1<<31 - 1
)

// What we bound by ourselves.
const (
	// minBlock is how large a block of headers may be, compressed, unless its fields may be larger; maxFragments is how many
	// frames it may come in beyond that.
	minBlock, maxFragments = 256 << 10, 128
	// maxUnwritten is how many bytes may wait to be written before bodies wait, and maxOwed the same of what
	// the other side asks for and does not read: answers to its PINGs and SETTINGS, and to streams that it may not open.
	maxUnwritten, maxOwed = 256 << 10, 1 << 20
	// maxKept is the largest buffer that is kept for the next write while there are streams, and maxIdle else.
	maxKept, maxIdle = 64 << 10, 4 << 10
	// lastWords is how long the last frames may take to be written.
	lastWords = time.Second
)

// link is one end of a connection, the client's or the server's. One goroutine reads, and one writes what all others append: so
// what many calls have to say at once goes out in one write.
type link struct {
	net.Conn
	role role
	// What one stream, and all of them, may send before we give them credit, in bytes.
	streamWindow, linkWindow int
	// creditAtOnce: the window of the link is given back as bytes come, not as they are read. Then the windows of the
	// streams alone bound what waits here, and a body that nobody reads delays no other.
	creditAtOnce bool

	// Of the reader alone.
	ahead    []byte // was read before
	in       []byte
	peeker   *wire.Peeker // waits without a buffer; nil where nobody does: over TLS, which may have read ahead, and at clients, which have few connections
	decoder  *hpack.Decoder
	fields   []hpack.HeaderField // of the block that is decoded
	size     int                 // of those, in bytes, as RFC 9113, section 6.5.2, counts them
	maxSize  int                 // of what is kept of them
	maxBlock int                 // of a block, compressed
	block    []byte              // fragments of a block whose end has not come
	blockOf  uint32              // its stream; 0: none
	blockN   int                 // its frames
	blockE   bool                // it ends the stream
	heads    bool                // a frame of one has come in part
	woken    []*flow             // those that have something new in what was read
	greeted  bool                // the other side's SETTINGS have come

	over chan struct{} // closed when the connection has ended

	mu      sync.Mutex
	moved   sync.Cond // windows, or what is unwritten, have changed, or a stream has ended
	out     []byte    // not written yet
	writing bool      // a writer runs
	handed  int64     // bytes before those: the kernel may have them
	spare   []byte
	owed    int // bytes of out that the other side has asked for
	encoder *encoder
	encoded []byte // a block of headers
	streams map[uint32]*flow
	taken   int   // bytes of DATA that the other side has no credit for yet
	room    int   // what it may still send
	window  int64 // what we may send
	initial int64 // of a stream, likewise
	leaving bool  // no new streams
	ending  error // why the connection ends when all is written
	err     error // why it has ended
}

// role is what a client and a server do differently. mu is held in all its methods.
type role interface {
	// headers takes the block of headers that was decoded.
	headers(id uint32, last bool) error
	// opened tells whether there ever was a stream of this id.
	opened(id uint32) bool
	// closed is for a frame of a stream that there is no more.
	closed(id uint32, kind http2.FrameType) error
	setting(id http2.SettingID, value uint32)
	// emptied is told when the last stream has gone.
	emptied()
	goAway(last uint32, code http2.ErrCode)
	// lastOpened is the id that a GOAWAY names.
	lastOpened() uint32
	// lost is what a stream is told that ends with its connection.
	lost(f *flow, err error) error
	// settled is told that all that was read has been dealt with.
	settled()
	// down is told that the connection has ended.
	down()
}

// prepare has a link ready, and what it says first: greeting is what comes before the SETTINGS. Then flush and read are to run.
func (l *link) prepare(nc net.Conn, role role, greeting string, settings ...http2.Setting) {
	l.Conn, l.role, l.streams = nc, role, map[uint32]*flow{}
	l.over = make(chan struct{})
	l.window, l.initial, l.room = firstWindow, firstWindow, l.linkWindow
	l.moved.L = &l.mu
	l.encoder = newEncoder()
	l.decoder = hpack.NewDecoder(firstTableSize, l.field)
	l.maxBlock = max(minBlock, l.maxSize)
	l.decoder.SetMaxStringLength(l.maxBlock)
	l.out = append(l.out, greeting...)
	l.frame(http2.FrameSettings, 0, 0, 6*len(settings))
	for _, s := range settings {
		l.out = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(l.out, uint16(s.ID)), s.Val)
	}
	l.credit(0, l.linkWindow-firstWindow)
}

// failed ends the connection and all its streams; mu is held.
func (l *link) failed(err error) {
	if l.err != nil {
		return
	}
	l.err, l.leaving = err, true
	for _, f := range l.streams {
		f.fail(l.role.lost(f, err))
		l.remove(f)
		f.signal()
	}
	l.role.down()
	l.moved.Broadcast()
	close(l.over)
	go func() { _ = l.Close() }() // TLS says goodbye, which may take time
}

// endWritten ends the connection when all that was appended is written; mu is held.
func (l *link) endWritten(err error) {
	if l.ending == nil && l.err == nil {
		l.ending, l.leaving = err, true
		_ = l.SetWriteDeadline(time.Now().Add(lastWords))
		l.flush()
	}
}

// frame appends the head of a frame; mu is held.
func (l *link) frame(kind http2.FrameType, flags http2.Flags, id uint32, length int) {
	l.out = append(l.out, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// credit gives back part of a window; mu is held.
func (l *link) credit(id uint32, n int) {
	l.frame(http2.FrameWindowUpdate, 0, id, 4)
	l.out = binary.BigEndian.AppendUint32(l.out, uint32(n))
}

// reset ends a stream at the other side; mu is held.
func (l *link) reset(id uint32, code http2.ErrCode) {
	l.frame(http2.FrameRSTStream, 0, id, 4)
	l.out = binary.BigEndian.AppendUint32(l.out, uint32(code))
}

// sayGoAway has the other side open no more streams; mu is held.
func (l *link) sayGoAway(code http2.ErrCode) {
	l.frame(http2.FrameGoAway, 0, 0, 8)
	l.out = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(l.out, l.role.lastOpened()), uint32(code))
}

// owes bounds what the other side makes us say. One who asks and does not read is cut off. mu is held.
func (l *link) owes(n int) error {
	if l.owed += n; l.owed > maxOwed {
		return broken(http2.ErrCodeEnhanceYourCalm, "what is asked for is not read")
	}
	return nil
}

// newBlock begins a block of headers, and add adds a field to it; mu is held.
func (l *link) newBlock() { l.encoded = l.encoder.begin(l.encoded[:0]) }

func (l *link) add(name, value string) { l.encoded = l.encoder.field(l.encoded, name, value) }

func (l *link) addAll(fields []hpack.HeaderField) {
	for _, f := range fields {
		l.add(f.Name, f.Value)
	}
}

// headerBlock appends the block that was begun last, as the headers of a stream; mu is held.
func (l *link) headerBlock(id uint32, flags http2.Flags) {
	block, kind := l.encoded, http2.FrameHeaders
	for first := true; first || len(block) > 0; first = false {
		part := block[:min(len(block), maxFrame)]
		if block = block[len(part):]; len(block) == 0 {
			flags |= http2.FlagHeadersEndHeaders
		}
		l.frame(kind, flags, id, len(part))
		l.out = append(l.out, part...)
		kind, flags = http2.FrameContinuation, 0
	}
	if cap(l.encoded) > maxIdle {
		l.encoded = nil
	}
}

// workers serve calls and write, for all connections: one without calls needs no goroutine to write.
var workers = make(wire.Workers)

// flush has what was appended be written; mu is held.
func (l *link) flush() {
	if !l.writing && l.err == nil {
		l.writing = true
		workers.Start((*writer)(l))
	}
}

// writer is the job of writing what was appended.
type writer link

// Run implements wire.Job.
func (w *writer) Run() {
	l := (*link)(w)
	runtime.Gosched() // what can run now may have something to say as well
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.out) > 0 && l.err == nil {
		batch := l.out
		l.handed += int64(len(batch))
		l.out, l.owed = l.spare[:0], 0
		l.mu.Unlock()
		_, err := l.Write(batch)
		wire.Poison(batch)
		l.mu.Lock()
		if l.spare = batch[:0]; cap(batch) > maxKept || cap(batch) > maxIdle && len(l.streams) == 0 {
			wire.GiveBack(batch)
			l.spare = nil
		}
		if err != nil {
			l.failed(err)
		}
		l.moved.Broadcast()
	}
	if l.writing = false; l.ending != nil {
		l.failed(l.ending)
	}
}

// errLost is the error of a connection that the other side has closed.
var errLost = fmt.Errorf("http2: the connection was closed: %w", io.ErrUnexpectedEOF)

// broken is an error of the other side's that ends the connection.
func broken(code http2.ErrCode, format string, args ...any) error {
	return fmt.Errorf("http2: "+format+": %w", append(args, http2.ConnectionError(code))...)
}

// read reads frames until the connection has ended.
func (l *link) read() {
	err := l.frames()
	l.tell() // what came before the error counts
	l.mu.Lock()
	defer l.mu.Unlock()
	var code http2.ConnectionError
	if !errors.As(err, &code) {
		l.failed(err)
		return
	}
	l.sayGoAway(http2.ErrCode(code))
	l.endWritten(err)
}

// frames reads frames. Bytes are held in small buffers, and in large ones where much comes at once; in none where nothing comes.
func (l *link) frames() error {
	defer func() { wire.GiveBack(l.in) }()
	l.in = append(wire.Room(nil, maxIdle), l.ahead...)
	l.ahead = nil
	for at, got := 0, 0; ; {
		for len(l.in)-at >= frameHead {
			head := l.in[at:]
			length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
			if length > maxFrame {
				return broken(http2.ErrCodeFrameSize, "a frame of %d bytes", length)
			}
			if len(head) < frameHead+length {
				break
			}
			kind, flags, id := http2.FrameType(head[3]), http2.Flags(head[4]), binary.BigEndian.Uint32(head[5:])&maxWindow
			if kind != http2.FrameSettings && !l.greeted {
				return broken(http2.ErrCodeProtocol, "the first frame is no SETTINGS")
			}
			if err := l.took(kind, flags, id, head[frameHead:frameHead+length]); err != nil {
				return err
			}
			wire.Poison(head[:frameHead+length])
			at += frameHead + length
		}
		rest := l.in[at:]
		l.heads = len(rest) > 3 && (http2.FrameType(rest[3]) == http2.FrameHeaders || http2.FrameType(rest[3]) == http2.FrameContinuation)
		l.tell()
		switch much := len(rest) > 0 || got >= maxIdle; {
		case !much:
			wire.GiveBack(l.in)
			l.in = nil
			if err := l.peeker.Wait(); err != nil {
				return err
			}
			l.in = wire.Room(nil, maxIdle)
		case cap(l.in) != 2*maxFrame:
			large := append(wire.Room(nil, 2*maxFrame), rest...)
			wire.GiveBack(l.in)
			l.in = large
		default:
			l.in = l.in[:copy(l.in, rest)]
		}
		n, err := l.Read(l.in[len(l.in):cap(l.in)])
		l.in = l.in[:len(l.in)+n]
		at, got = 0, n
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
func (l *link) tell() {
	for i, f := range l.woken {
		f.told = false
		f.signal()
		l.woken[i] = nil
	}
	l.woken = l.woken[:0]
	l.mu.Lock()
	defer l.mu.Unlock()
	l.role.settled()
	if len(l.out) > 0 {
		l.flush()
	}
}
