// Package wire has what clients of HTTP/1.1 and HTTP/2 have in common. They know bytes, frames, windows and connections, and nothing of
// Holdline.
package wire

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"time"

	"golang.org/x/net/http/httpguts"
)

// ErrHeaderInvalid is the error of a request of which nothing was sent, since HTTP does not allow its header.
var ErrHeaderInvalid = errors.New("a header that HTTP does not allow")

// MaxInformational is how many responses of 1xx may come before the one that counts.
const MaxInformational = 32

// Dialer opens connections to one server.
type Dialer struct {
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLS is what https takes; its ServerName is the URL's if it is empty.
	TLS *tls.Config
	// HandshakeTimeout bounds TLS.
	HandshakeTimeout time.Duration
}

// Open opens a connection to the server of a URL, over which one of the protocols is spoken, as ALPN names them.
func (d *Dialer) Open(ctx context.Context, u *url.URL, protocols ...string) (net.Conn, error) {
	port := "80"
	if u.Scheme == "https" {
		port = "443"
	}
	dialled, err := d.Dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port)))
	if err != nil || u.Scheme != "https" {
		return dialled, err
	}
	cfg := d.TLS.Clone()
	cfg.ServerName, cfg.NextProtos = cmp.Or(cfg.ServerName, u.Hostname()), protocols
	secure := tls.Client(dialled, cfg)
	ctx, cancel := context.WithTimeout(ctx, d.HandshakeTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = dialled.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return secure, nil
}

// Valid tells whether HTTP allows a header.
func Valid(header http.Header) error {
	for key, values := range header {
		if !httpguts.ValidHeaderFieldName(key) {
			return fmt.Errorf("%w: %q", ErrHeaderInvalid, key)
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return fmt.Errorf("%w: the value of %s", ErrHeaderInvalid, key)
			}
		}
	}
	return nil
}

// Length is the length of a request's body in bytes; -1 when it is unknown.
func Length(req *http.Request) int64 {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return 0
	case req.ContentLength == 0:
		return -1
	}
	return req.ContentLength
}

// SaysLength tells whether a request says how long its body is. That there is none is said where one is usual.
func SaysLength(req *http.Request) bool {
	switch length := Length(req); req.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return length >= 0
	default:
		return length > 0
	}
}

// AtHand tells whether a body can be read without waiting: it knows how much of it is left, as a bytes.Reader does.
func AtHand(body io.Reader) bool {
	_, ok := body.(interface{ Len() int })
	return ok
}

// Whole takes what is left of a body that has come whole, and is small. It returns false, and takes nothing, if it cannot tell that. The bytes are not to be
// changed.
func Whole(body io.Reader) ([]byte, bool) {
	if b, ok := body.(interface{ Whole() ([]byte, bool) }); ok {
		return b.Whole()
	}
	return nil, false
}

// SetHeader has the header of a response be this one, which is the response's from then on. It returns false, and changes nothing, if it cannot, or if the
// response has some header already.
func SetHeader(w http.ResponseWriter, header http.Header) bool {
	s, ok := w.(interface{ SetHeader(header http.Header) bool })
	return ok && s.SetHeader(header)
}

// Informed is what hears of responses of 1xx, by httptrace: whoever has made the context.
func Informed(ctx context.Context) func(code int, header http.Header) error {
	trace := httptrace.ContextClientTrace(ctx)
	return func(code int, header http.Header) error {
		if trace == nil || trace.Got1xxResponse == nil {
			return nil
		}
		return trace.Got1xxResponse(code, textproto.MIMEHeader(header))
	}
}

// Asks tells whether a request wants the server to ask for its body.
func Asks(header http.Header) bool {
	return httpguts.HeaderValuesContainsToken(header["Expect"], "100-continue")
}
