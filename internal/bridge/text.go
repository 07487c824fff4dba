package bridge

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
)

// grpcWeb and grpcWebText are the media types of gRPC-Web, without the codec, and of its form in
// base64, which browsers read as it comes.
const grpcWeb, grpcWebText = "application/grpc-web", "application/grpc-web-text"

// WithText lets handlers of gRPC-Web serve calls in base64; streams: what is flushed does not wait for more.
func WithText(next http.Handler, streams bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		codec, isText := strings.CutPrefix(r.Header.Get("Content-Type"), grpcWebText)
		if !isText {
			next.ServeHTTP(w, r)
			return
		}
		plain := r.Clone(r.Context())
		plain.Header.Set("Content-Type", grpcWeb+codec)
		plain.Body = struct {
			io.Reader
			io.Closer
		}{base64.NewDecoder(base64.StdEncoding, r.Body), r.Body}
		text := &textWriter{ResponseWriter: w, streams: streams, body: base64.NewEncoder(base64.StdEncoding, w)}
		next.ServeHTTP(text, plain)
		_ = text.body.Close() // the caller left, else
	})
}

// textWriter writes a response of gRPC-Web in base64.
type textWriter struct {
	http.ResponseWriter
	streams bool
	body    io.WriteCloser
}

// WriteHeader implements http.ResponseWriter.
func (w *textWriter) WriteHeader(status int) {
	w.name()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *textWriter) Write(p []byte) (int, error) {
	w.name() // of no effect after WriteHeader
	return w.body.Write(p)
}

// Flush implements http.Flusher, which connect asks for. The base64 of a stream is padded there, as gRPC-Web
// allows; in any other what makes no whole quantum waits.
func (w *textWriter) Flush() {
	w.name() // of no effect after WriteHeader
	if w.streams {
		_ = w.body.Close() // the caller left, else
		w.body = base64.NewEncoder(base64.StdEncoding, w.ResponseWriter)
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *textWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *textWriter) name() {
	if codec, ok := strings.CutPrefix(w.Header().Get("Content-Type"), grpcWeb); ok && !strings.HasPrefix(codec, "-text") {
		w.Header().Set("Content-Type", grpcWebText+codec)
	}
}
