package coding_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"holdline/internal/coding"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("a message, ", 1000)
	for name, open := range map[string]func(io.Writer) io.WriteCloser{
		"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"Deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
		"snappy":  func(w io.Writer) io.WriteCloser { return s2.NewWriter(w, s2.WriterSnappyCompat()) },
		"zstd": func(w io.Writer) io.WriteCloser {
			encoder, err := zstd.NewWriter(w)
			if err != nil {
				t.Fatal(err)
			}
			return encoder
		},
	} {
		var raw bytes.Buffer
		w := open(&raw)
		_, err := io.WriteString(w, text)
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		if got, err := coding.Decode(name, raw.Bytes(), len(text)); err != nil || string(got) != text || !coding.Known(name) {
			t.Errorf("%s: got %d bytes, %v; want all", name, len(got), err)
		}
		if got, err := coding.Decode(name, raw.Bytes(), 100); err == nil || string(got) != text[:100] {
			t.Errorf("%s, of at most 100 bytes: got %d, %v; want 100 and an error", name, len(got), err)
		}
		if _, err := coding.Decode(name, raw.Bytes()[:raw.Len()/2], len(text)); err == nil {
			t.Errorf("%s: half of it was taken for all", name)
		}
		if _, err := coding.Decode(name, []byte(text), len(text)); err == nil {
			t.Errorf("%s: something else was taken for it", name)
		}
	}
	if got, err := coding.Decode("", []byte(text), len(text)); err != nil || string(got) != text {
		t.Errorf("without a coding: got %d bytes, %v", len(got), err)
	}
	if coding.Known("br") {
		t.Error("br is said to be known")
	}
}
