package bridge

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A call of gRPC-Web in base64 is the same call to its handler, and gets its response in base64. Others pass as they are.
func TestTextOfGRPCWeb(t *testing.T) {
	t.Parallel()
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_, _ = w.Write(body)
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "!")
	})
	encode := base64.StdEncoding.EncodeToString
	for _, c := range []struct {
		contentType, body, want string
		streams                 bool
	}{
		{"application/grpc-web-text+proto", encode([]byte("abcd")), encode([]byte("abcd!")), false},
		{"application/grpc-web-text", encode([]byte("abc")), encode([]byte("abc!")), false},
		{"application/grpc-web-text+proto", encode([]byte("abcd")), encode([]byte("abcd")) + encode([]byte("!")), true},
		{"application/grpc-web+proto", "abc", "abc!", true},
		{"application/json", "{}", "{}!", false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.contentType)
		w := httptest.NewRecorder()
		WithText(service, c.streams).ServeHTTP(w, r)
		if w.Body.String() != c.want || w.Header().Get("Content-Type") != c.contentType {
			t.Errorf("%s: got %s, %q, want %q in its own type", c.contentType, w.Header().Get("Content-Type"), w.Body, c.want)
		}
	}
}
