// Package docs is what a gateway tells people about itself: /openapi.yaml, made
// of the schemas, and /docs, a page to read it and to try calls from.
package docs

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/swaggest/swgui/v5/static"

	"holdline/internal/route"
)

// Service is one that the gateway routes. It is described if there is a schema.
type Service struct {
	Name string
	// Proxied: its calls go through the proxy, which retries and explains.
	Proxied bool
	// Stored: calls that it cannot take become tasks.
	Stored bool
}

// Config is what there is to describe.
type Config struct {
	Services []Service // in the order that they are shown in
	Schemas  *route.Schemas
	Tasks    bool // the gateway has /v1/tasks
	Logger   *slog.Logger
}

// csp keeps the page to itself: no script, style or call of another origin. The
// styles are React's and Swagger UI's own, written into elements.
const csp = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

//go:embed page
var page embed.FS

// Mount mounts document and page. The document is made once, when it is first
// asked for: most gateways are never asked. It is kept compressed.
func Mount(mux *http.ServeMux, cfg Config) error {
	document := sync.OnceValues(func() (*file, error) {
		var content bytes.Buffer
		compressed := gzip.NewWriter(&content)
		out := &writer{out: compressed}
		out.mapping(slices.Values(describe(cfg)), "", true)
		out.write("\n")
		err := errors.Join(out.err, compressed.Close())
		return newFile("application/yaml", slices.Clip(content.Bytes()), true), err
	})
	mux.HandleFunc("GET /openapi.yaml", func(w http.ResponseWriter, r *http.Request) {
		made, err := document()
		if err != nil {
			cfg.Logger.Error("no OpenAPI document", "error", err)
			http.Error(w, "the schemas cannot be described", http.StatusInternalServerError)
			return
		}
		made.ServeHTTP(w, r)
	})
	files, err := pageFiles()
	for path, file := range files {
		mux.Handle("GET "+path, file)
	}
	return err
}

// pageFiles are the files of the page, by path.
var pageFiles = sync.OnceValues(func() (map[string]*file, error) {
	files := map[string]*file{}
	for _, f := range []struct {
		path, kind, name string
		from             embed.FS
	}{
		{"/docs", "text/html; charset=utf-8", "page/index.html", page},
		{"/docs/{$}", "text/html; charset=utf-8", "page/index.html", page},
		// Below /docs/assets, since /docs/x would be a procedure.
		{"/docs/assets/start.js", "text/javascript", "page/start.js", page},
		{"/docs/assets/page.css", "text/css", "page/page.css", page},
		{"/docs/assets/swagger-ui.css", "text/css", "swagger-ui.css.gz", static.FS},
		{"/docs/assets/swagger-ui.js", "text/javascript", "swagger-ui-bundle.js.gz", static.FS},
	} {
		content, err := f.from.ReadFile(f.name)
		if err != nil {
			return nil, fmt.Errorf("docs: %w", err)
		}
		files[f.path] = newFile(f.kind, content, path.Ext(f.name) == ".gz")
	}
	return files, nil
})

// file is something that stays the same as long as the gateway lives.
type file struct {
	kind    string // Content-Type
	etag    string
	content []byte
	gzipped bool
}

func newFile(kind string, content []byte, gzipped bool) *file {
	return &file{kind, fmt.Sprintf(`"%x"`, sha256.Sum256(content)), content, gzipped}
}

// ServeHTTP implements http.Handler. Browsers keep the file and ask each time
// whether it is another one.
func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", f.kind)
	header.Set("Content-Security-Policy", csp)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-cache")
	if f.gzipped {
		header.Set("Vary", "Accept-Encoding")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			if plain, err := gzip.NewReader(bytes.NewReader(f.content)); err == nil {
				_, _ = io.Copy(w, plain) // the caller left, else
			}
			return
		}
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Etag", f.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
