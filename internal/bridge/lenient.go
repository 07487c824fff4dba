package bridge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"connectrpc.com/connect/v2"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const grpcMessage, grpcDetails = "Grpc-Message", "Grpc-Status-Details-Bin"

// Body is the body of a response. Its status counts even if the message is not percent-encoded as it
// should be, which the gRPC specification asks for, or if the details cannot be read: connect would drop
// the status with them, and the answer be lost. It is safe for concurrent use.
type Body struct {
	io.ReadCloser
	res    *http.Response
	broken atomic.Bool
	close  func() error // once
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		mendStatus(b.res.Trailer) // they are there at the end of the body
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.broken.Store(true)
	}
	return n, err
}

// Close implements io.Closer. It ends a Read that is under way.
func (b *Body) Close() error { return b.close() }

// BrokeOff tells whether an answer was not whole, by the error that connect made of it: its body could not be
// read to its end, or ended too early.
func (b *Body) BrokeOff(err error) bool {
	return b == nil || b.broken.Load() || errors.Is(err, io.ErrUnexpectedEOF)
}

// TooLarge tells an answer over the limit, which connect stops reading, from a service that says
// resource_exhausted, and from a stream that was reset with that meaning.
func TooLarge(err error) bool {
	var rpcErr *connect.Error
	var reset http2.StreamError
	return errors.As(err, &rpcErr) && rpcErr.Code() == connect.CodeResourceExhausted && !rpcErr.IsRemote() && !errors.As(err, &reset)
}

// TakeLeniently makes the status of a response count, whatever its message and details look like. In gRPC it
// counts whatever the HTTP status is, too: connect would make `unavailable` of it where a proxy says 504, and
// that means that the call did not run.
func TakeLeniently(res *http.Response, protocol string) *Body {
	body := &Body{ReadCloser: res.Body, res: res, close: sync.OnceValue(res.Body.Close)}
	res.Body = body
	mendType(res.Header)
	mendStatus(res.Header)
	if protocol != connect.ProtocolNameConnect && res.Header.Get("Grpc-Status") != "" && res.StatusCode != http.StatusOK {
		res.StatusCode = http.StatusOK
		if !strings.HasPrefix(res.Header.Get("Content-Type"), "application/grpc") {
			res.Header.Set("Content-Type", Speech{Protocol: protocol}.MediaType())
		}
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), grpcWeb) {
		res.Body = &webBody{ReadCloser: body}
	}
	return body
}

// webBody is a body of gRPC-Web: its trailers are the last frame.
type webBody struct {
	io.ReadCloser
	left int64        // bytes of the message that passes
	at   bytes.Buffer // read, and not given out yet
}

// maxTrailers is how large trailers may be that we look into.
const maxTrailers = 64 << 10

// Read implements io.Reader.
func (b *webBody) Read(p []byte) (int, error) {
	const trailers = 0x80
	switch {
	case b.at.Len() > 0:
		return b.at.Read(p)
	case b.left > 0:
		n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		return n, err
	}
	var frame [envelopeHead]byte
	n, err := io.ReadFull(b.ReadCloser, frame[:])
	b.left = int64(binary.BigEndian.Uint32(frame[1:]))
	if n < envelopeHead {
		b.left = 0
	}
	if frame[0] != trailers || n < envelopeHead || b.left > maxTrailers {
		b.at.Write(frame[:n])
	} else {
		raw := make([]byte, b.left)
		if n, err = io.ReadFull(b.ReadCloser, raw); err != nil {
			b.at.Write(append(frame[:], raw[:n]...))
		} else {
			raw = mendTrailers(raw)
			b.at.Write(append(binary.BigEndian.AppendUint32([]byte{trailers}, uint32(len(raw))), raw...))
		}
		b.left = 0
	}
	if b.at.Len() > 0 {
		return b.at.Read(p) // the next Read finds the end
	}
	return 0, err
}

// mendTrailers is mendStatus for trailers as gRPC-Web writes them.
func mendTrailers(raw []byte) []byte {
	header := http.Header{}
	for line := range strings.SplitSeq(string(raw), "\r\n") {
		if key, value, ok := strings.Cut(line, ":"); ok {
			header.Add(textproto.TrimString(key), textproto.TrimString(value))
		}
	}
	mendStatus(header)
	var mended bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(header)) {
		for _, value := range header[key] {
			mended.WriteString(strings.ToLower(key) + ": " + value + "\r\n")
		}
	}
	return mended.Bytes()
}

// mendStatus encodes what is not encoded in a message, and drops details that cannot be read.
func mendStatus(header http.Header) {
	encodePercents(header)
	if encoded := header.Get(grpcDetails); encoded != "" {
		if _, ok := readDetails(encoded); !ok {
			header.Del(grpcDetails)
		}
	}
}

// readDetails reads the details out of a google.rpc.Status as they came: connect does not keep
// the host of a type's URL. A status that says OK is no error. Its message need not be UTF-8.
func readDetails(encoded string) (details []*anypb.Any, ok bool) {
	const codeField, detailsField = 1, 3
	raw, err := connect.DecodeBinaryHeader(encoded)
	if err != nil {
		return nil, false
	}
	code := uint64(0)
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeField(raw)
		if n < 0 {
			return nil, false
		}
		_, _, tag := protowire.ConsumeTag(raw)
		value := raw[tag:n]
		raw = raw[n:]
		switch {
		case number == codeField && kind == protowire.VarintType:
			code, _ = protowire.ConsumeVarint(value)
		case number == detailsField && kind == protowire.BytesType:
			bytes, _ := protowire.ConsumeBytes(value)
			detail := new(anypb.Any)
			if proto.Unmarshal(bytes, detail) != nil {
				return nil, false
			}
			details = append(details, detail)
		}
	}
	return details, code != 0
}

// mendType removes the parameters of a media type, unless they name another charset than UTF-8: connect
// understands a type with parameters in only one spelling.
func mendType(header http.Header) {
	mediaType, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if charset, ok := params["charset"]; err == nil && (!ok || strings.EqualFold(charset, "utf-8")) {
		header.Set("Content-Type", mediaType)
	}
}

// encodePercents encodes each percent sign that begins no encoded byte.
func encodePercents(header http.Header) {
	message := header.Get(grpcMessage)
	if !strings.Contains(message, "%") {
		return
	}
	var encoded strings.Builder
	for i := range len(message) {
		encoded.WriteByte(message[i])
		if message[i] == '%' && (i+2 >= len(message) || !isHex(message[i+1]) || !isHex(message[i+2])) {
			encoded.WriteString("25")
		}
	}
	header.Set(grpcMessage, encoded.String())
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
