package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/contract"
)

const (
	// window is the largest there is in HTTP/2: answers never wait for our credit.
	window = 1<<31 - 1
	// peerWindow is what a peer lets us send at first, and peerFrame how much in a frame.
	peerWindow, peerFrame = 1<<16 - 1, 1 << 14
)

// grpcCaller speaks gRPC over HTTP/2 on bare frames: see connectCaller for why.
type grpcCaller struct {
	conn    net.Conn
	in      *bufio.Reader
	out     *bytes.Buffer // frames to write, in one write
	framer  *http2.Framer // reads from in, writes to out
	fields  []hpack.HeaderField
	hpack   *hpack.Encoder
	block   bytes.Buffer // of hpack
	unpack  *hpack.Decoder
	taking  *grpcStream // whose headers are unpacked
	ask     *ask
	next    uint32 // stream
	open    map[uint32]*grpcStream
	ended   []*grpcStream // to be used again
	credit  int64         // what the peer lets us send on the connection
	initial int64         // and on a new stream
	stalled bool          // a request waits for credit
	taken   uint32        // of our window, since we gave it back
	id      string        // of the last answer's task
}

// grpcStream is a call under way.
type grpcStream struct {
	id     uint32
	sent   time.Time
	unsent []byte
	credit int64
	body   []byte
	http   string // :status
	status string // grpc-status
	ended  bool   // with these headers
	task   string
}

func newGRPCCaller(conn net.Conn, a *ask) caller {
	c := &grpcCaller{
		conn: conn, in: bufio.NewReaderSize(conn, 2*peerFrame), out: new(bytes.Buffer), ask: a,
		next: 1, open: map[uint32]*grpcStream{}, credit: peerWindow, initial: peerWindow,
	}
	scheme := "http"
	if _, ok := conn.(*tls.Conn); ok {
		scheme = "https"
	}
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", scheme}, {":path", a.path()}, {":authority", conn.RemoteAddr().String()},
		{"content-type", "application/grpc"}, {"user-agent", "holdline-bench"}, {"te", "trailers"},
	} {
		c.fields = append(c.fields, hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	for _, h := range a.header {
		c.fields = append(c.fields, hpack.HeaderField{Name: strings.ToLower(h[0]), Value: h[1]})
	}
	if a.usual {
		c.fields = append(c.fields, hpack.HeaderField{Name: "grpc-timeout", Value: grpcDeadline})
	}
	c.hpack = hpack.NewEncoder(&c.block)
	c.framer = http2.NewFramer(c.out, c.in)
	c.framer.SetReuseFrames()
	c.unpack = hpack.NewDecoder(4096, func(f hpack.HeaderField) { c.taking.take(f) })
	// What is queued here goes out with the first call.
	c.out.WriteString(http2.ClientPreface)
	_ = c.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	_ = c.framer.WriteWindowUpdate(0, window-peerWindow)
	return c
}

// send queues a call. It is written with others when receive has nothing left to read.
func (c *grpcCaller) send(now time.Time) error {
	c.block.Reset()
	for _, f := range c.fields {
		_ = c.hpack.WriteField(f)
	}
	if c.ask.keyed {
		// Not worth a place in the table of what was sent before.
		key := hpack.HeaderField{Name: strings.ToLower(contract.HeaderKey), Value: newKey(), Sensitive: true}
		if err := c.hpack.WriteField(key); err != nil {
			return err
		}
	}
	if c.ask.usual {
		if err := c.hpack.WriteField(hpack.HeaderField{Name: "traceparent", Value: traceparent + newTrace(), Sensitive: true}); err != nil {
			return err
		}
	}
	s := &grpcStream{}
	if last := len(c.ended) - 1; last >= 0 {
		s, c.ended = c.ended[last], c.ended[:last]
	}
	*s = grpcStream{id: c.next, sent: now, unsent: c.ask.says().grpc.request, credit: c.initial, body: s.body[:0]}
	c.open[s.id] = s
	c.next += 2
	// Writes to out, a buffer, cannot fail.
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: c.block.Bytes(), EndHeaders: true})
	c.push(s)
	return nil
}

// push queues as much of a request as the peer lets us send.
func (c *grpcCaller) push(s *grpcStream) {
	for len(s.unsent) > 0 {
		n := min(int64(len(s.unsent)), peerFrame, s.credit, c.credit)
		if n <= 0 {
			c.stalled = true
			return
		}
		_ = c.framer.WriteData(s.id, n == int64(len(s.unsent)), s.unsent[:n])
		s.unsent = s.unsent[n:]
		s.credit -= n
		c.credit -= n
	}
}

func (c *grpcCaller) flush() error {
	if c.out.Len() == 0 {
		return nil
	}
	_, err := c.conn.Write(c.out.Bytes())
	c.out.Reset()
	return err
}

// receive reads frames until a stream has ended.
func (c *grpcCaller) receive() (time.Time, error) {
	for {
		if c.in.Buffered() == 0 {
			if err := c.flush(); err != nil {
				return time.Time{}, err
			}
		}
		if sent, ended, err := c.advance(); ended || err != nil {
			return sent, err
		}
	}
}

// advance reads a frame.
func (c *grpcCaller) advance() (sent time.Time, ended bool, err error) {
	frame, err := c.framer.ReadFrame()
	if err != nil {
		return time.Time{}, false, err
	}
	s := c.open[frame.Header().StreamID]
	switch f := frame.(type) {
	case *http2.HeadersFrame:
		return c.headers(s, f.HeaderBlockFragment(), f.HeadersEnded(), f.StreamEnded())
	case *http2.ContinuationFrame:
		return c.headers(s, f.HeaderBlockFragment(), f.HeadersEnded(), false)
	case *http2.DataFrame:
		if c.taken += f.Length; c.taken > window/2 {
			_ = c.framer.WriteWindowUpdate(0, c.taken)
			c.taken = 0
		}
		if s == nil {
			return time.Time{}, false, nil
		}
		if s.body = append(s.body, f.Data()...); f.StreamEnded() {
			err = errors.New("the stream ended without trailers")
		}
		return s.sent, false, err
	}
	return time.Time{}, false, c.control(frame, s)
}

// headers takes headers or trailers, or a part of them: the last part, or of the last ones of their stream. The stream is nil if it is none that is under way.
func (c *grpcCaller) headers(s *grpcStream, fragment []byte, last, ends bool) (sent time.Time, ended bool, err error) {
	c.taking = s
	if _, err = c.unpack.Write(fragment); err == nil && last {
		err = c.unpack.Close()
	}
	if s == nil || err != nil {
		return time.Time{}, false, err
	}
	if s.ended = s.ended || ends; !s.ended || !last {
		return s.sent, false, nil
	}
	return s.sent, true, c.end(s)
}

// come looks for a whole frame.
func (c *grpcCaller) come() (bool, error) {
	const head = 9 // of a frame
	begins, err := c.in.Peek(head)
	if err == nil {
		_, err = c.in.Peek(head + (int(begins[0])<<16 | int(begins[1])<<8 | int(begins[2])))
	}
	return whole(err)
}

// end checks a call that has ended.
func (c *grpcCaller) end(s *grpcStream) error {
	delete(c.open, s.id)
	c.ended = append(c.ended, s)
	c.id = s.task
	status, answer := "0", c.ask.says().grpc.answer
	if c.ask.handle {
		status, answer = "4", nil
	}
	if s.http != "200" {
		return fmt.Errorf("status %s, want 200", s.http)
	}
	if s.status != status {
		return fmt.Errorf("grpc-status %q, want %s", s.status, status)
	}
	if !bytes.Equal(s.body, answer) {
		return fmt.Errorf("answer %.64x, want %.64x", s.body, answer)
	}
	return c.ask.checkTask(c.id)
}

// take takes what is checked out of headers or trailers.
func (s *grpcStream) take(field hpack.HeaderField) {
	if s == nil {
		return
	}
	switch field.Name {
	case ":status":
		if s.http == "" || field.Value != "200" {
			s.http = field.Value
		}
	case "grpc-status":
		s.status = field.Value
	case "holdline-task":
		s.task = field.Value
	}
}

// control handles the frames that carry nothing of a call. The stream is nil if it is none that is under way.
func (c *grpcCaller) control(frame http2.Frame, s *grpcStream) error {
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if size, ok := f.Value(http2.SettingHeaderTableSize); ok {
			c.hpack.SetMaxDynamicTableSizeLimit(size)
		}
		if size, ok := f.Value(http2.SettingInitialWindowSize); ok {
			for _, open := range c.open {
				open.credit += int64(size) - c.initial
			}
			c.initial = int64(size)
			c.resume()
		}
		_ = c.framer.WriteSettingsAck()
		return c.flush()
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		_ = c.framer.WritePing(true, f.Data)
		return c.flush()
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.credit += int64(f.Increment)
		} else if s != nil {
			s.credit += int64(f.Increment)
		}
		c.resume()
	case *http2.RSTStreamFrame:
		// After its end a stream may still be reset: the peer has not read ours.
		if s != nil {
			return fmt.Errorf("stream reset: %s", f.ErrCode)
		}
	case *http2.GoAwayFrame:
		return fmt.Errorf("connection given up: %s", f.ErrCode)
	}
	return nil
}

// resume goes on with the requests that wait for credit.
func (c *grpcCaller) resume() {
	if !c.stalled {
		return
	}
	c.stalled = false
	for _, s := range c.open {
		c.push(s)
	}
}

func (c *grpcCaller) buffered() int { return c.in.Buffered() }

func (c *grpcCaller) task() string { return c.id }

func (c *grpcCaller) expire(at time.Time) error { return c.conn.SetDeadline(at) }

func (c *grpcCaller) close() { _ = c.conn.Close() }
