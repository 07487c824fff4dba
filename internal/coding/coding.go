// Package coding undoes the compression of bodies and messages.
package coding

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is how far back a zstd stream may refer, in bytes: what RFC 9659 asks of HTTP.
const maxWindow = 8 << 20

// readers are the codings that can be undone, by their names in Content-Encoding and
// grpc-encoding.
var readers = map[string]func(io.Reader) (io.Reader, func(), error){
	"":         plain,
	"identity": plain,
	"gzip":     func(r io.Reader) (io.Reader, func(), error) { return noClose(gzip.NewReader(r)) },
	"deflate":  func(r io.Reader) (io.Reader, func(), error) { return noClose(zlib.NewReader(r)) },
	"snappy":   func(r io.Reader) (io.Reader, func(), error) { return s2.NewReader(r), func() {}, nil },
	"zstd": func(r io.Reader) (io.Reader, func(), error) {
		decoder, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return decoder, decoder.Close, nil
	},
}

func plain(r io.Reader) (io.Reader, func(), error) { return r, func() {}, nil }

func noClose[R io.Reader](r R, err error) (io.Reader, func(), error) { return r, func() {}, err }

// Known tells whether a coding can be undone.
func Known(name string) bool { return readers[strings.ToLower(name)] != nil }

// Decode returns what is in a body, as far as it can be read and at most limit bytes of it; an
// error when it does not end well, or not within the limit, or its coding is not Known.
func Decode(name string, raw []byte, limit int) ([]byte, error) {
	open, ok := readers[strings.ToLower(name)]
	if !ok {
		return nil, fmt.Errorf("unknown coding %q", name)
	}
	reader, done, err := open(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	defer done()
	text, err := io.ReadAll(io.LimitReader(reader, int64(limit)+1))
	if len(text) > limit {
		return text[:limit], io.ErrShortBuffer
	}
	return text, err
}
