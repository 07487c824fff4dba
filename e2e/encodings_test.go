package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// encodings are the compressions that a stored call may have.
var encodings = map[string]struct {
	write func(io.Writer) io.WriteCloser
	read  func(io.Reader) (io.Reader, error)
}{
	"gzip": {
		func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	},
	"deflate": {
		func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
		func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) },
	},
	"snappy": {
		func(w io.Writer) io.WriteCloser { return snappy.NewBufferedWriter(w) },
		func(r io.Reader) (io.Reader, error) { return snappy.NewReader(r), nil },
	},
	"zstd": {
		func(w io.Writer) io.WriteCloser {
			encoder, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
			if err != nil {
				panic(err)
			}
			return encoder
		},
		func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r, zstd.WithDecoderConcurrency(1)) },
	},
}

func packed(tb testing.TB, encoding string, message []byte) string {
	tb.Helper()
	var packed bytes.Buffer
	w := encodings[encoding].write(&packed)
	if _, err := w.Write(message); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return packed.String()
}

// unpacked reads a message as its response says that it is compressed.
func (h heard) unpacked(tb testing.TB) string {
	tb.Helper()
	encoding := h.header.Get("Content-Encoding") + h.header.Get("Grpc-Encoding")
	if encoding == "" || encoding == "identity" || h.message == "" {
		return h.message
	}
	r, err := encodings[encoding].read(strings.NewReader(h.message))
	if err != nil {
		tb.Errorf("%s: %v", encoding, err)
		return ""
	}
	if closer, ok := r.(*zstd.Decoder); ok {
		defer closer.Close()
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		tb.Errorf("%s: %v", encoding, err)
	}
	return string(raw)
}

// encodingHeader says how a message of that type is compressed.
func encodingHeader(contentType, encoding string) string {
	if strings.HasPrefix(contentType, "application/grpc") {
		return "Grpc-Encoding: " + encoding
	}
	return "Content-Encoding: " + encoding
}

// Calls in every compression that Holdline reads outlive an outage, and so do those of browsers that speak
// gRPC-Web in base64.
func TestEncodingsStored(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
	messages := map[string]string{
		"application/json": `{"amount":"7"}`, "application/proto": "\x08\x07", "application/grpc": "\x08\x07", "application/grpc+json": `{"amount":"7"}`,
		"application/grpc-web+proto": "\x08\x07", "application/grpc-web+json": `{"amount":"7"}`,
		"application/grpc-web-text": "\x08\x07", "application/grpc-web-text+proto": "\x08\x07", `Application/Proto; messageType="ledger.v1.Entry"`: "\x08\x07",
	}
	var callers sync.WaitGroup
	n := 0
	for contentType, message := range messages {
		for _, encoding := range []string{"gzip", "zstd", "deflate", "snappy", "identity"} {
			n++
			body := message
			if encoding != "identity" {
				body = packed(t, encoding, []byte(message))
			}
			headers := []string{"Prefer: wait=60", "Connect-Protocol-Version: 1"}
			if encoding != "identity" {
				headers = append(headers, encodingHeader(contentType, encoding))
			}
			callers.Go(func() {
				got := speak(t, s.Gateway, "Post", contentType, body, headers...)
				if got.code != "" || got.task == "" || got.unpacked(t) != message {
					t.Errorf("%s, %s: got %+v, want %q", contentType, encoding, got, message)
				}
			})
		}
	}
	awaitTasks(t, s.Gateway, n, momv1.TaskState_TASK_STATE_QUEUED)
	(&mirror{}).serve(t, addr)
	callers.Wait()
}

// What Holdline does not read it cannot store, and says so: an outage is no reason for a final word.
func TestNotStorable(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + freeport.Addr(t)}})
	for _, c := range []struct{ contentType, encoding string }{
		{"application/json", "br"}, {"application/proto", "gzip, br"}, {"application/grpc", "lz4"}, {"application/grpc-web+proto", "br"},
		{"application/grpc-web-text", "br"}, {"application/grpc+other", ""}, {"application/grpc-web+thrift", ""}, {"application/x-protobuf", ""},
		{"application/json; charset=utf-16", ""}, {"text/plain", ""}, {"", ""},
	} {
		for _, asked := range []string{"Prefer: wait=5", "Prefer: respond-async", "Idempotency-Key: k" + url.QueryEscape(c.contentType+c.encoding)} {
			for _, method := range []string{"Read", "Post"} {
				headers := []string{asked}
				if c.encoding != "" {
					headers = append(headers, encodingHeader(c.contentType, c.encoding))
				}
				got := speak(t, s.Gateway, method, c.contentType, "\x08\x07", headers...)
				status := http.StatusServiceUnavailable
				if strings.HasPrefix(c.contentType, "application/grpc") {
					status = http.StatusOK
				}
				if got.code != "unavailable" || got.reason != "CALL_NOT_STORABLE" || got.status != status || got.task != "" || !strings.Contains(got.text, "Holdline does not read") {
					t.Errorf("%s of %v with %s: got %+v, want unavailable, CALL_NOT_STORABLE", method, c, asked, got)
				}
			}
		}
	}
}

// A message that is small only while it is compressed is told what it is: too large to be stored.
func TestSmallOnlyCompressed(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + freeport.Addr(t)}})
	large := map[string][]byte{
		"json":  fmt.Appendf(nil, `{"owner":{"name":"%s"}}`, strings.Repeat("a", 1<<20)),
		"proto": asCodec(t, "proto", entry(t, fmt.Sprintf("owner {name: %q}", strings.Repeat("a", 1<<20)))),
	}
	for _, contentType := range []string{"application/json", "application/proto", "application/grpc", "application/grpc-web+json"} {
		codec := "proto"
		if strings.Contains(contentType, "json") {
			codec = "json"
		}
		for encoding := range encodings {
			body := packed(t, encoding, large[codec])
			for _, method := range []string{"Read", "Post"} {
				for asked, want := range map[string]heard{
					"Prefer: wait=5":             {status: http.StatusServiceUnavailable, code: "unavailable", reason: "CALL_NOT_STORABLE"},
					"Prefer: respond-async":      {status: http.StatusRequestEntityTooLarge, code: "invalid_argument", reason: "REQUEST_TOO_LARGE"},
					"Idempotency-Key: " + method: {status: http.StatusRequestEntityTooLarge, code: "invalid_argument", reason: "REQUEST_TOO_LARGE"},
				} {
					if strings.HasPrefix(contentType, "application/grpc") {
						want.status = http.StatusOK
					}
					got := speak(t, s.Gateway, method, contentType, body, asked, encodingHeader(contentType, encoding))
					if got.code != want.code || got.reason != want.reason || got.status != want.status || got.task != "" {
						t.Errorf("%s, %s, %s with %s: got %+v, want %+v", contentType, encoding, method, asked, got, want)
					}
				}
			}
		}
	}
}
