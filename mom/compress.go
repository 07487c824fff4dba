package mom

import (
	"io"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectgzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// zstdWindow is how much of a message a decompressor of zstd remembers at most, in bytes. It is
// what every decoder should support (RFC 8878, 3.1.1.1.2).
const zstdWindow = 8 << 20

// compressors are the compressions of calls that are stored. Their names are those of
// contract.NotStorable, but for identity.
func compressors() []connect.Compressor {
	return []connect.Compressor{
		connectgzip.New(),
		&compressor{"zstd", func(src io.Reader) (io.ReadCloser, error) {
			r, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
			if err != nil {
				return nil, err
			}
			return r.IOReadCloser(), nil
		}, func(dst io.Writer) (io.WriteCloser, error) {
			return zstd.NewWriter(dst, zstd.WithEncoderConcurrency(1))
		}},
		// HTTP and gRPC call zlib's format so (RFC 9110, 8.4.1.2).
		&compressor{"deflate", zlib.NewReader, func(dst io.Writer) (io.WriteCloser, error) {
			return zlib.NewWriter(dst), nil
		}},
		&compressor{"snappy", func(src io.Reader) (io.ReadCloser, error) {
			return io.NopCloser(snappy.NewReader(src)), nil
		}, func(dst io.Writer) (io.WriteCloser, error) {
			return snappy.NewBufferedWriter(dst), nil
		}},
	}
}

// compressor implements connect.Compressor.
type compressor struct {
	name  string
	read  func(src io.Reader) (io.ReadCloser, error)
	write func(dst io.Writer) (io.WriteCloser, error)
}

// Name implements connect.Compressor.
func (c *compressor) Name() string { return c.name }

// Compress implements connect.Compressor.
func (c *compressor) Compress(dst io.Writer) (io.WriteCloser, error) { return c.write(dst) }

// Decompress implements connect.Compressor.
func (c *compressor) Decompress(src io.Reader) (io.ReadCloser, error) { return c.read(src) }
