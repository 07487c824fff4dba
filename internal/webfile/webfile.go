// Package webfile serves files to browsers that stay the same as long as the process lives.
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

// csp keeps a page to itself: no script, style or call of another origin. The
// styles are React's and Swagger UI's own, written into elements.
const csp = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

// File is an http.Handler, safe for concurrent use.
type File struct {
	kind    string
	etag    string
	content []byte
	gzipped bool
}

// New returns a file of a media type. A content that is gzipped is kept so.
func New(mediaType string, content []byte, gzipped bool) *File {
	return &File{mediaType, fmt.Sprintf(`"%x"`, sha256.Sum256(content)), content, gzipped}
}

// ServeHTTP implements http.Handler. Browsers keep the file and ask each time
// whether it is another one.
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
				_, _ = io.Copy(w, plain) // the caller left, else
			}
			return
		}
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Etag", f.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
