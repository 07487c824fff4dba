// Package webfile serves browsers files that do not change while the process runs.
package webfile

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// csp allows no script, style or call of another origin. 'unsafe-inline' is for the styles that React and
// Swagger UI write into elements.
const csp = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

// File is an http.Handler, safe for concurrent use.
type File struct {
	kind    string
	etag    string
	content []byte
	gzipped bool
}

// New returns a file with a media type. gzipped says that content is compressed with gzip.
func New(mediaType string, content []byte, gzipped bool) *File {
	return &File{mediaType, fmt.Sprintf(`"%x"`, sha256.Sum256(content)), content, gzipped}
}

// ServeHTTP implements http.Handler. Browsers may keep the file, but ask each time whether it has changed.
func (f *File) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", f.kind)
	header.Set("Content-Security-Policy", csp)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-cache")
	if f.gzipped {
		header.Set("Vary", "Accept-Encoding")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			if plain, err := gzip.NewReader(bytes.NewReader(f.content)); err == nil {
				_, _ = io.Copy(w, plain) // an error means that the caller left
			}
			return
		}
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Etag", f.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
