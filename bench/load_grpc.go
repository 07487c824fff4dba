package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/contract"
)

var (
	// grpcRequest is SumRequest{a: 1, b: 2} behind its gRPC frame header.
	grpcRequest = []byte("\x00\x00\x00\x00\x12" +
		"\x09\x00\x00\x00\x00\x00\x00\xf0\x3f" + "\x11\x00\x00\x00\x00\x00\x00\x00\x40")
	// grpcAnswer is SumResponse{result: 3}.
	grpcAnswer = []byte("\x00\x00\x00\x00\x09" + "\x09\x00\x00\x00\x00\x00\x00\x08\x40")
)

// window is the largest there is in HTTP/2: answers never wait for our credit.
const window = 1<<31 - 1

// grpcCaller speaks gRPC over HTTP/2 without TLS, a stream after the other, on
// bare frames: see connectCaller for why.
type grpcCaller struct {
	conn   net.Conn
	out    *bytes.Buffer // frames to write, in one write
	framer *http2.Framer // reads from the connection, writes to out
	fields []hpack.HeaderField
	hpack  *hpack.Encoder
	block  bytes.Buffer // of hpack
	stream uint32
	credit int64 // what the peer lets us send on the connection
	body   []byte
	ask    *ask
	status string // grpc-status of the last answer
	id     string // of the last answer's task
}

func dialGRPC(ctx context.Context, addr string, a *ask) (*grpcCaller, error) {
	conn, err := dialTCP(ctx, addr)
	if err != nil {
		return nil, err
	}
	c := &grpcCaller{conn: conn, out: new(bytes.Buffer), credit: 1<<16 - 1, ask: a}
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", a.path()}, {":authority", addr},
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
	c.framer = http2.NewFramer(c.out, bufio.NewReader(conn))
	c.framer.SetReuseFrames()
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	// What is queued here goes out with the first call.
	c.out.WriteString(http2.ClientPreface)
	_ = c.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	_ = c.framer.WriteWindowUpdate(0, window-(1<<16-1))
	return c, nil
}

func (c *grpcCaller) call() error {
	if c.credit < int64(len(grpcRequest)) {
		return fmt.Errorf("the peer returns no flow control credit")
	}
	c.credit -= int64(len(grpcRequest))
	if c.stream == 0 {
		c.stream = 1
	} else {
		c.stream += 2
	}
	c.block.Reset()
	for _, f := range c.fields {
		if err := c.hpack.WriteField(f); err != nil {
			return err
		}
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
	// Writes to out, a buffer, cannot fail.
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: c.stream, BlockFragment: c.block.Bytes(), EndHeaders: true,
	})
	_ = c.framer.WriteData(c.stream, true, grpcRequest)
	if err := c.flush(); err != nil {
		return err
	}
	return c.read()
}

func (c *grpcCaller) flush() error {
	_, err := c.conn.Write(c.out.Bytes())
	c.out.Reset()
	return err
}

// read reads frames until the stream has ended, and checks what came.
func (c *grpcCaller) read() error {
	c.body, c.status, c.id = c.body[:0], "", ""
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		ended := false
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			ended = f.StreamID == c.stream && f.StreamEnded()
			if err := c.take(f); err != nil {
				return err
			}
		case *http2.DataFrame:
			c.body = append(c.body, f.Data()...)
			if f.StreamEnded() {
				return fmt.Errorf("the stream ended without trailers")
			}
		default:
			if err := c.control(f); err != nil {
				return err
			}
		}
		if ended {
			break
		}
	}
	status, answer := "0", grpcAnswer
	if c.ask.handle {
		status, answer = "4", nil
	}
	if c.status != status {
		return fmt.Errorf("grpc-status %q, want %s", c.status, status)
	}
	if !bytes.Equal(c.body, answer) {
		return fmt.Errorf("answer %x, want %x", c.body, answer)
	}
	return c.ask.checkTask(c.id)
}

// take takes what is checked out of headers or trailers, and wants :status 200.
func (c *grpcCaller) take(f *http2.MetaHeadersFrame) error {
	for _, field := range f.Fields {
		switch field.Name {
		case ":status":
			if field.Value != "200" {
				return fmt.Errorf("status %s, want 200", field.Value)
			}
		case "grpc-status":
			c.status = field.Value
		case "holdline-task":
			c.id = field.Value
		}
	}
	return nil
}

// control handles the frames that carry nothing of a call.
func (c *grpcCaller) control(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if size, ok := f.Value(http2.SettingHeaderTableSize); ok {
			c.hpack.SetMaxDynamicTableSizeLimit(size)
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
		}
	case *http2.RSTStreamFrame:
		// After its end a stream may still be reset: the peer has not read ours.
		if f.StreamID == c.stream {
			return fmt.Errorf("stream reset: %s", f.ErrCode)
		}
	case *http2.GoAwayFrame:
		return fmt.Errorf("connection given up: %s", f.ErrCode)
	}
	return nil
}

func (c *grpcCaller) task() string { return c.id }

func (c *grpcCaller) expire(at time.Time) error { return c.conn.SetDeadline(at) }

func (c *grpcCaller) close() { _ = c.conn.Close() }
