package gateway_test

import (
	"fmt"
	"strings"

	"golang.org/x/net/http2"
)

// oddFrame is a frame of a stream, or of the connection.
type oddFrame struct {
	kind    http2.FrameType
	flags   http2.Flags
	ofConn  bool // else it is of the stream
	payload string
}

// String is the frame as bytes.
func (f oddFrame) String() string {
	return fmt.Sprintf("%v flags=%x conn=%t %q", f.kind, uint8(f.flags), f.ofConn, f.payload)
}

func writeFrames(framer *http2.Framer, id uint32, frames []oddFrame) {
	for _, f := range frames {
		payload, to := []byte(f.payload), id
		if f.ofConn {
			to = 0
		}
		if f.kind == http2.FrameGoAway { // relative to the stream
			last := id + uint32(int8(payload[3]))
			if int8(payload[3]) < 0 && id < 2 {
				last = 0
			}
			payload[0], payload[1], payload[2], payload[3] = byte(last>>24), byte(last>>16), byte(last>>8), byte(last)
		}
		if framer.WriteRawFrame(f.kind, f.flags, to, payload) != nil {
			return
		}
	}
}

// literal is a block of HPACK that uses no table.
func literal(fields ...string) string {
	var b strings.Builder
	size := func(n int) {
		if n < 127 {
			b.WriteByte(byte(n))
			return
		}
		b.WriteByte(127)
		for n -= 127; n >= 128; n >>= 7 {
			b.WriteByte(byte(n&127 | 128))
		}
		b.WriteByte(byte(n))
	}
	for _, field := range fields {
		colon := strings.Index(field[1:], ":") + 1 // pseudo headers begin with one
		name, value := field, ""
		if colon > 0 {
			name, value = field[:colon], strings.TrimPrefix(field[colon+1:], " ")
		}
		b.WriteByte(0)
		size(len(name))
		b.WriteString(name)
		size(len(value))
		b.WriteString(value)
	}
	return b.String()
}

func headersFrame(end bool, fields ...string) oddFrame {
	f := oddFrame{kind: http2.FrameHeaders, flags: http2.FlagHeadersEndHeaders, payload: literal(fields...)}
	if end {
		f.flags |= http2.FlagHeadersEndStream
	}
	return f
}

func dataFrame(end bool, data string) oddFrame {
	f := oddFrame{kind: http2.FrameData, payload: data}
	if end {
		f.flags |= http2.FlagDataEndStream
	}
	return f
}
