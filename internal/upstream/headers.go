package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"

	"holdline/internal/wire"
	"holdline/internal/wire/h2"
)

// LargeHeaders is the size, in bytes as HeaderBytes counts them, above which headers may be more than a
// service takes. Servers in common use take at least 8 KiB.
const LargeHeaders = 4 << 10

// Causes of calls that can be sent to no endpoint.
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

// unsendable returns the cause if an error means that no endpoint takes the call; otherwise
// it returns nothing. net/http writes nothing of a request whose headers exceed the limit in
// the service's SETTINGS, or that has a header which HTTP does not allow. Its errors
// have no types, so we recognize them by their texts. No text of a service ends like the first of these.
func unsendable(err error) (cause string) {
	switch text := err.Error(); {
	case errors.Is(err, h2.ErrHeadersTooLarge):
		return HeadersTooLarge
	case errors.Is(err, wire.ErrHeaderInvalid):
		return HeaderInvalid
	case strings.HasSuffix(text, "request header list larger than peer's advertised limit"):
		return HeadersTooLarge
	case strings.HasPrefix(text, "net/http: invalid header field"):
		return HeaderInvalid
	}
	return ""
}

// meetFirst lets a request with large headers wait until its connection has brought one
// response. A server sends its SETTINGS before anything else, so net/http then knows the limit.
// On a new connection net/http would not wait for the SETTINGS, and a server that gets more headers than
// it accepts may break the connection, with the other calls on it.
func (e *Endpoint) meetFirst(ctx context.Context, transport http.RoundTripper, trace *httptrace.ClientTrace) *httptrace.ClientTrace {
	return onConn(trace, func(info httptrace.GotConnInfo) {
		if c := connOf(info); c != nil && !c.answered.Load() {
			e.meet(ctx, transport, c)
		}
	})
}

// meet asks for the service's health on a connection that is the transport's only one.
// Any answer will do.
func (e *Endpoint) meet(ctx context.Context, transport http.RoundTripper, c *conn) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	const noMessage = "\x00\x00\x00\x00\x00"
	ask, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url.JoinPath("/grpc.health.v1.Health/Check").String(), strings.NewReader(noMessage))
	if err != nil {
		return
	}
	ask.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	res, err := transport.RoundTrip(ask)
	if err != nil {
		return // the call itself will find out
	}
	_, _ = io.CopyN(io.Discard, res.Body, maxErrorBody)
	_ = res.Body.Close()
	c.answered.Store(true)
}
