package docs_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"holdline/gateway/docs"
	"holdline/internal/openapi"
	"holdline/internal/route"
)

// Browsers ask whether a file has changed; who takes no gzip gets none.
func TestFiles(t *testing.T) {
	t.Parallel()
	schemas, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	if err := docs.Mount(mux, docs.Config{
		Describe: func() openapi.Config { return openapi.Config{Schemas: schemas} }, Version: schemas.Version,
	}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/openapi.yaml", "/docs", "/docs/", "/docs/assets/start.js", "/docs/assets/page.css", "/docs/assets/swagger-ui.css", "/docs/assets/swagger-ui.js"} {
		first := read(t, mux, path, "Accept-Encoding: gzip")
		if first.Code != http.StatusOK {
			t.Errorf("%s: got %d", path, first.Code)
			continue
		}
		if again := read(t, mux, path, "Accept-Encoding: gzip", "If-None-Match: "+first.Header().Get("Etag")); again.Code != http.StatusNotModified {
			t.Errorf("%s again: got %d, want 304", path, again.Code)
		}
		content := first.Body.String()
		if first.Header().Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(first.Body)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(unzipped)
			if err != nil {
				t.Fatal(err)
			}
			content = string(raw)
		}
		if plain := read(t, mux, path); plain.Body.String() != content || plain.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s without gzip is another file", path)
		}
	}
}

func read(t *testing.T, handler http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		req.Header.Set(key, value)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, req)
	return w
}
