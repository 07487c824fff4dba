// Package docs is what a gateway tells people about itself: /openapi.yaml, made
// of the schemas, and /docs, a page to read it and to try calls from.
package docs

import (
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"sync"

	"github.com/swaggest/swgui/v5/static"

	"holdline/internal/openapi"
	"holdline/internal/webfile"
)

// Config is what there is to describe.
type Config struct {
	// Describe returns what there is to describe now, and Version a number that changes with that.
	Describe func() openapi.Config
	Version  func() int64
	Logger   *slog.Logger
}

//go:embed page
var page embed.FS

// Mount mounts document and page. The document is made when it is first asked for, since most
// gateways are never asked, and again when there is something else to describe. It is kept compressed.
func Mount(mux *http.ServeMux, cfg Config) error {
	document := &document{cfg: cfg}
	mux.HandleFunc("GET /openapi.yaml", func(w http.ResponseWriter, r *http.Request) {
		made, err := document.get()
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

// document is the OpenAPI document. It is safe for concurrent use.
type document struct {
	cfg Config

	mu      sync.Mutex
	version int64 // of what it describes
	made    *webfile.File
	err     error
}

func (d *document) get() (*webfile.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if version := d.cfg.Version(); d.made == nil || d.version != version {
		var content bytes.Buffer
		compressed := gzip.NewWriter(&content)
		d.err = errors.Join(openapi.Write(compressed, d.cfg.Describe()), compressed.Close())
		d.version, d.made = version, webfile.New("application/yaml", slices.Clip(content.Bytes()), true)
	}
	return d.made, d.err
}

// pageFiles are the files of the page, by path.
var pageFiles = sync.OnceValues(func() (map[string]*webfile.File, error) {
	files := map[string]*webfile.File{}
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
		files[f.path] = webfile.New(f.kind, content, path.Ext(f.name) == ".gz")
	}
	return files, nil
})
