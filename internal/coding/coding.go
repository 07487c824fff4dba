// Package coding has the compressions of bodies and messages that Holdline knows.
package coding

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectgzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is the maximum window of a zstd stream, in bytes. RFC 9659 sets it for HTTP.
const maxWindow = 8 << 20

// Compressors returns the known compressions. Their names are those of Content-Encoding and grpc-encoding.
// They are safe for concurrent use.
func Compressors() []connect.Compressor {
	return []connect.Compressor{
		connectgzip.New(),
		compressor{"zstd", func(src io.Reader) (io.ReadCloser, error) {
			r, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return nil, err
			}
			return r.IOReadCloser(), nil
		}, func(dst io.Writer) (io.WriteCloser, error) {
			return zstd.NewWriter(dst, zstd.WithEncoderConcurrency(1))
		}},
		// In HTTP and gRPC, deflate is the format of zlib (RFC 9110, 8.4.1.2).
		compressor{"deflate", zlib.NewReader, func(dst io.Writer) (io.WriteCloser, error) {
			return zlib.NewWriter(dst), nil
		}},
		compressor{"snappy", func(src io.Reader) (io.ReadCloser, error) {
			return io.NopCloser(snappy.NewReader(src)), nil
		}, func(dst io.Writer) (io.WriteCloser, error) {
			return snappy.NewBufferedWriter(dst), nil
		}},
	}
}

// Names returns the names of the Compressors.
func Names() []string {
	var names []string
	for _, c := range Compressors() {
		names = append(names, c.Name())
	}
	return names
}

// compressor implements connect.Compressor.
type compressor struct {
	name  string
	read  func(src io.Reader) (io.ReadCloser, error)
	write func(dst io.Writer) (io.WriteCloser, error)
}

// Name implements connect.Compressor.
func (c compressor) Name() string { return c.name }

// Compress implements connect.Compressor.
func (c compressor) Compress(dst io.Writer) (io.WriteCloser, error) { return c.write(dst) }

// Decompress implements connect.Compressor.
func (c compressor) Decompress(src io.Reader) (io.ReadCloser, error) { return c.read(src) }

// known has the Compressors by name. A nil value means that the body is not compressed.
var known = byName()

func byName() map[string]connect.Compressor {
	names := map[string]connect.Compressor{"": nil, "identity": nil}
	for _, c := range Compressors() {
		names[c.Name()] = c
	}
	return names
}

// Known tells whether Decode can undo the compression of this name, in upper or lower case.
func Known(name string) bool {
	_, ok := known[strings.ToLower(name)]
	return ok
}

// Decode decompresses a body to at most limit bytes. It returns an error, and the bytes so far, if the body
// is damaged, incomplete or larger than limit, or if its compression is not Known.
func Decode(name string, raw []byte, limit int) ([]byte, error) {
	c, ok := known[strings.ToLower(name)]
	if !ok {
		return nil, fmt.Errorf("unknown compression %q", name)
	}
	reader := io.NopCloser(bytes.NewReader(raw))
	if c != nil {
		var err error
		if reader, err = c.Decompress(reader); err != nil {
			return nil, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(reader, int64(limit)+1))
	if len(text) > limit {
		text, err = text[:limit], io.ErrShortBuffer
	}
	_ = reader.Close() // it only reads from memory
	return text, err
}
