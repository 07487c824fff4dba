package gateway

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"connectrpc.com/cors"
	rscors "github.com/rs/cors"
)

// withCORS lets pages of these origins call, with whatever headers they like, and read
// all of the response's headers. No cookies: credentials are never allowed, so that * is
// no danger to anybody who is logged in somewhere.
func withCORS(handler http.Handler, origins []string) http.Handler {
	if len(origins) == 0 {
		return handler
	}
	return rscors.New(rscors.Options{
		AllowedOrigins: origins,
		AllowedMethods: cors.AllowedMethods(),
		AllowedHeaders: []string{"*"}, // answered with those that are asked for
		MaxAge:         7200,          // what Chromium keeps at most
	}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" {
			w = &corsWriter{ResponseWriter: w, origin: w.Header().Get(allowOrigin)}
		}
		handler.ServeHTTP(w, r)
	}))
}

// origins matches the origins that a browser may send, and patterns, in which * stands for anything. Pages without an origin, such as
// pages opened from files, send null.
var origins = regexp.MustCompile(`^(null|.*\*.*|[A-Za-z][A-Za-z0-9+.-]*://[^/?#@:\s][^/?#@\s]*)$`)

// usualPort ends an origin with the port that browsers leave out.
var usualPort = regexp.MustCompile(`(?i)^(https://.+):443$|^(http://.+):80$`)

// checkOrigins refuses texts that no page can have as its origin.
func checkOrigins(list []string) error {
	for _, origin := range list {
		if !origins.MatchString(origin) {
			return fmt.Errorf("CORS origin %q: want scheme://host or scheme://host:port, such as https://app.example, or *", origin)
		}
		if usual := usualPort.FindStringSubmatch(origin); usual != nil {
			return fmt.Errorf("CORS origin %q: browsers leave this port out, so want %s", origin, usual[1]+usual[2])
		}
	}
	return nil
}

const (
	corsPrefix    = "Access-Control-"
	allowOrigin   = corsPrefix + "Allow-Origin"
	exposeHeaders = corsPrefix + "Expose-Headers"
)

// corsWriter writes a response that a page may read. It drops the service's own CORS headers:
// the gateway answers the preflights, and the two could disagree.
type corsWriter struct {
	http.ResponseWriter
	origin string // the allowed origin of the request; empty: none
	done   bool
}

// WriteHeader implements http.ResponseWriter.
func (w *corsWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.judge()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *corsWriter) Write(p []byte) (int, error) {
	w.judge()
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher, which connect asks server streams for.
func (w *corsWriter) Flush() {
	w.judge()
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *corsWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// judge sets the headers once, just before they are written. It names each header of the response instead of
// writing *, which only newer browsers understand.
func (w *corsWriter) judge() {
	if w.done {
		return
	}
	w.done = true
	header := w.Header()
	maps.DeleteFunc(header, func(key string, values []string) bool { return strings.HasPrefix(key, corsPrefix) })
	if w.origin == "" {
		return
	}
	var names []string
	for key, values := range header {
		if len(values) > 0 && !strings.HasPrefix(key, http.TrailerPrefix) {
			names = append(names, key)
		}
	}
	slices.Sort(names)
	header.Set(allowOrigin, w.origin)
	header.Set(exposeHeaders, strings.Join(names, ", "))
}
