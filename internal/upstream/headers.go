package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// largeHeaders is from where on headers may be more than an HTTP/2 service takes, in
// bytes as HeaderBytes counts them. Servers in common use take 8 KiB at least.
const largeHeaders = 4 << 10

// What keeps a call from being sent to any endpoint.
const (
	HeadersTooLarge = "headers-too-large"
	HeaderInvalid   = "header-invalid"
)

// HeaderBytes is the size of headers as HTTP/2 counts it (RFC 9113, section 6.5.2),
// without those that begin with a colon.
func HeaderBytes(header http.Header) (bytes int) {
	const overhead = 32 // of each field
	for key, values := range header {
		for _, value := range values {
			bytes += len(key) + len(value) + overhead
		}
	}
	return bytes
}

// unsendable tells why no endpoint takes a call, if that is what an error says; else
// it returns nothing. net/http writes nothing of a request that is over the limit in
// the service's SETTINGS, or that has a header which HTTP does not allow; its errors
// have no types. Where the limit was not known, servers such as grpc-go refuse the
// frame of large headers before they look for a handler.
func unsendable(err error, large bool) (cause string) {
	var stream http2.StreamError
	switch text := err.Error(); {
	case strings.Contains(text, "request header list larger than peer's advertised limit"),
		large && errors.As(err, &stream) && stream.Code == http2.ErrCodeFrameSize:
		return HeadersTooLarge
	case strings.HasPrefix(text, "net/http: invalid header field"):
		return HeaderInvalid
	}
	return ""
}

// meetFirst lets a request with large headers wait for the server's SETTINGS, which it
// sends at once on a new connection. net/http would not wait, and a server that gets
// far more than it takes may break the connection under other calls. Over TLS the
// handshake comes first, so there is no telling.
func meetFirst(ctx context.Context, next func(httptrace.GotConnInfo)) func(httptrace.GotConnInfo) {
	return func(info httptrace.GotConnInfo) {
		if next != nil {
			next(info)
		}
		c, ok := info.Conn.(*conn)
		if !ok {
			return
		}
		patience := time.NewTimer(dialTimeout)
		defer patience.Stop()
		select {
		case <-c.met:
		case <-c.closed:
		case <-patience.C:
		case <-ctx.Done():
		}
	}
}
