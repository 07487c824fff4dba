package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http2"
)

// dice is what cases depend on.
type dice struct{ *rand.Rand }

// in is true once in n times.
func (d *dice) in(n int) bool { return d.IntN(n) == 0 }

func (d *dice) pick(from ...string) string { return from[d.IntN(len(from))] }

// oddRequest is a request, as bytes of HTTP/1.1 or as frames.
type oddRequest struct {
	method string
	raw    string
	frames []oddFrame
	at     int  // where the bytes are parted; 0: they are not
	cut    bool // the caller sends no more of it, and over HTTP/1.1 nothing more at all
}

func (r *oddRequest) parts() []string {
	if r.at <= 0 || r.at >= len(r.raw) {
		return []string{r.raw}
	}
	return []string{r.raw[:r.at], r.raw[r.at:]}
}

// draft is a request before it is bytes.
type draft struct {
	method, path, version, host string
	fields                      []string // "Name: value"
	body                        string
	framing                     []string // fields that say how long the body is; nil: what is usual
	chunked                     string   // the body in chunks; empty: as it is
	after                       string   // more bytes than were said
	trailers                    []string // of HTTP/2
	end                         string   // of a line
	pseudo                      []string // in place of the usual ones
}

var contentTypes = []string{
	"application/json", "application/json", "application/json", "application/proto", "application/grpc", "application/grpc", "application/grpc+proto",
	"application/grpc-web+proto", "application/connect+json", "text/plain",
}

// deadlines are the values of those that callers send.
var deadlines = []string{"10000", "20S", "60000", "1M", "60000m"}

// messageOf is one in a content type.
func messageOf(kind string) string {
	switch {
	case strings.HasPrefix(kind, "application/grpc"):
		return message
	case strings.HasPrefix(kind, "application/connect"):
		return envelope(0, "{}")
	case kind == "application/proto":
		return ""
	}
	return "{}"
}

// request makes a request of a content type.
func (d *dice) request(c *oddCase, kind string) oddRequest {
	r := &draft{
		method: http.MethodPost, path: "/" + c.name() + "/" + d.pick("Get", "Get", "Put", "Add", "Add"), version: "HTTP/1.1", host: "gateway.example",
		fields: []string{"Content-Type: " + kind}, body: messageOf(kind), end: "\r\n",
	}
	if strings.HasPrefix(kind, "application/grpc") {
		r.fields = append(r.fields, "Te: trailers")
	}
	for range []int{0, 0, 0, 1, 1, 1, 2, 2, 3}[d.IntN(9)] {
		usual := oddities
		if d.in(2) {
			usual = oddFields
		}
		usual[d.IntN(len(usual))](d, r)
	}
	if d.in(6) {
		r.fields = append(r.fields, "Holdline-Explain: 1")
	}
	d.Shuffle(len(r.fields), func(i, j int) { r.fields[i], r.fields[j] = r.fields[j], r.fields[i] })
	if c.caller == 2 {
		return d.inFrames(r)
	}
	return d.inBytes(r)
}

// inBytes is the request over HTTP/1.1.
func (d *dice) inBytes(r *draft) oddRequest {
	out := oddRequest{method: r.method}
	fields := r.fields
	if r.host != "" {
		fields = append([]string{"Host: " + r.host}, fields...)
	}
	switch {
	case r.framing != nil:
		fields = append(fields, r.framing...)
	case r.chunked != "":
		fields = append(fields, "Transfer-Encoding: chunked")
	case r.method == http.MethodPost || r.body != "":
		fields = append(fields, fmt.Sprint("Content-Length: ", len(r.body)))
	}
	if r.chunked != "" {
		r.body = r.chunked
	}
	lines := append([]string{r.method + " " + r.path + " " + r.version}, fields...)
	switch d.IntN(12) {
	case 0: // names in another case
		for i := range lines[1:] {
			name, value, ok := strings.Cut(lines[i+1], ":")
			if ok {
				lines[i+1] = d.pick(strings.ToLower(name), strings.ToUpper(name)) + ":" + value
			}
		}
	case 1: // spaces around a value
		i := 1 + d.IntN(max(1, len(lines)-1))
		if i < len(lines) {
			lines[i] = strings.Replace(lines[i], ": ", d.pick(":", ":\t", ":   ", ": \t "), 1) + d.pick("", " ", "\t")
		}
	}
	head := strings.Join(lines, r.end) + r.end + r.end
	if d.in(40) { // a line that ends in another way
		n := d.IntN(strings.Count(head, "\r\n") + 1)
		for i := range len(head) - 1 {
			if head[i:i+2] == "\r\n" {
				if n--; n < 0 {
					head = head[:i] + d.pick("\n", "\r", "\r\r\n", "\n\r\n", "\r\n ", "\r\n\t") + head[i+2:]
					break
				}
			}
		}
	}
	if d.in(40) {
		head = d.pick("\r\n", "\n", " ", "\r\n\r\n") + head
	}
	out.raw = head + r.body + r.after
	switch d.IntN(20) {
	case 0:
		out.raw, out.cut = out.raw[:4+d.IntN(len(out.raw)-4)], true // of fewer bytes, both close without a word, or with 400
	case 1, 2, 3:
		out.at = d.IntN(len(out.raw))
	}
	return out
}

// inFrames is the request over HTTP/2.
func (d *dice) inFrames(r *draft) oddRequest {
	out := oddRequest{method: r.method}
	fields := r.pseudo
	if fields == nil {
		fields = []string{":method: " + r.method, ":scheme: http", ":authority: " + r.host, ":path: " + r.path}
		if r.host == "" {
			fields = append(fields[:2], fields[3])
		}
	}
	upper := d.in(50)
	for _, f := range append(r.fields, r.framing...) {
		name, value, ok := strings.Cut(f, ":")
		if ok && (!upper || d.in(2)) {
			name = strings.ToLower(name)
		}
		f = name + ":" + value
		if !ok {
			f = name + ":"
		}
		fields = append(fields, f)
	}
	if r.framing == nil && d.in(3) {
		fields = append(fields, fmt.Sprint("content-length: ", len(r.body)))
	}
	if d.in(30) {
		d.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	}
	body := r.body + r.after
	head := headersFrame(body == "" && len(r.trailers) == 0, fields...)
	out.frames = d.asOdd(head)
	switch parts := d.IntN(6); {
	case body == "":
	case parts == 0 && len(body) > 1:
		out.frames = append(append(out.frames, dataFrame(false, ""), dataFrame(false, body[:1])), d.asOdd(dataFrame(false, body[1:]))...)
		out.frames = append(out.frames, dataFrame(len(r.trailers) == 0, ""))
	default:
		out.frames = append(out.frames, d.asOdd(dataFrame(len(r.trailers) == 0, body))...)
	}
	if len(r.trailers) > 0 {
		out.frames = append(out.frames, d.asOdd(headersFrame(!d.in(10), r.trailers...))...)
	}
	switch d.IntN(25) {
	case 0:
		out.frames = append(out.frames[:d.IntN(len(out.frames))], oddFrame{kind: http2.FrameRSTStream, payload: "\x00\x00\x00" + d.pick("\x08", "\x00", "\x01", "\x07")})
		out.cut = true
	case 1:
		// After the end, it would be a matter of luck whether the call is done first.
		if len(out.frames) > 1 {
			out.frames = slices.Insert(out.frames, 1+d.IntN(len(out.frames)-1), d.pickFrame())
		}
	}
	return out
}

// pickFrame is a frame between others.
func (d *dice) pickFrame() oddFrame {
	return []oddFrame{
		{kind: http2.FramePriority, payload: "\x00\x00\x00\x00\x10"},
		{kind: http2.FramePriority, payload: "\x80\x00\x00\x0d\x10"},
		{kind: http2.FramePriority, payload: "\x00\x00\x00"},
		{kind: http2.FramePing, ofConn: true, payload: "12345678"},
		{kind: http2.FramePing, ofConn: true, payload: "1234"},
		{kind: http2.FrameWindowUpdate, payload: "\x00\x00\x00\x01"},
		{kind: http2.FrameWindowUpdate, payload: "\x00\x00\x00\x00"},
		{kind: http2.FrameWindowUpdate, ofConn: true, payload: "\x00\x00\x00\x00"},
		{kind: http2.FrameWindowUpdate, ofConn: true, payload: "\x7f\xff\xff\xff"},
		{kind: http2.FrameSettings, ofConn: true, payload: "\x00\x04\x00\x10\x00\x00"},
		{kind: http2.FrameSettings, ofConn: true, payload: "\x00\x02\x00\x00\x00\x07"},
		{kind: http2.FrameSettings, ofConn: true, payload: "\x00"},
		{kind: 0xfe, payload: "odd"},
		{kind: 0xfe, ofConn: true, payload: "odd"},
		{kind: http2.FrameContinuation, flags: http2.FlagHeadersEndHeaders, payload: ""},
		{kind: http2.FramePushPromise, flags: http2.FlagHeadersEndHeaders, payload: "\x00\x00\x00\x02"},
		{kind: http2.FrameData, ofConn: true, payload: "odd"},
		{kind: http2.FrameHeaders, ofConn: true, flags: http2.FlagHeadersEndHeaders},
		{kind: http2.FrameRSTStream, ofConn: true, payload: "\x00\x00\x00\x08"},
	}[d.IntN(19)]
}

// maxFrame is the most that a frame has.
const maxFrame = 16 << 10

// asOdd is a frame, padded, with a priority, or in pieces.
func (d *dice) asOdd(f oddFrame) (all []oddFrame) {
	if len(f.payload) > maxFrame {
		for rest := f.payload; rest != ""; {
			part := f
			part.payload = rest[:min(len(rest), maxFrame)]
			if rest = rest[len(part.payload):]; rest != "" {
				part.flags &^= http2.FlagHeadersEndHeaders
			}
			if f.kind == http2.FrameHeaders && len(all) > 0 {
				part.kind, part.flags = http2.FrameContinuation, part.flags&http2.FlagHeadersEndHeaders
			}
			if f.kind == http2.FrameData && rest != "" {
				part.flags &^= http2.FlagDataEndStream
			}
			all = append(all, part)
		}
		return all
	}
	switch d.IntN(12) {
	case 0:
		n := d.IntN(5)
		if len(f.payload)+1+n > maxFrame {
			break
		}
		f.flags |= http2.FlagDataPadded
		f.payload = string(rune(n)) + f.payload + strings.Repeat("\x00", n)
		if d.in(20) {
			f.payload = "\x7f" + f.payload[1:]
		}
	case 1:
		if f.kind == http2.FrameHeaders {
			f.flags |= http2.FlagHeadersPriority
			f.payload = d.pick("\x00\x00\x00\x00\x0f", "\x80\x00\x00\x00\xff", "\x00\x00\x00\x0b\x00") + f.payload
		}
	case 2, 3:
		if f.kind == http2.FrameHeaders {
			at := d.IntN(len(f.payload) + 1)
			rest := oddFrame{kind: http2.FrameContinuation, flags: http2.FlagHeadersEndHeaders, payload: f.payload[at:]}
			f.flags &^= http2.FlagHeadersEndHeaders
			f.payload = f.payload[:at]
			if d.in(3) {
				return []oddFrame{f, {kind: http2.FrameContinuation}, rest}
			}
			return []oddFrame{f, rest}
		}
	}
	return []oddFrame{f}
}
