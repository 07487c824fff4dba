package h2

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/wire"
)

// stream is one request and its response.
type stream struct {
	flow
	c *conn

	// The request.
	from int64         // where it begins among all bytes of the connection
	body io.ReadCloser // that is sent beside the response; nil for one that was at hand

	// The response.
	bare     bool // has no body, whatever its headers say of one
	early    []informational
	status   int
	head     []hpack.HeaderField // nil until it has come
	few      [10]hpack.HeaderField
	trailers []hpack.HeaderField
	last     [3]hpack.HeaderField
	stop     func() bool
	response http.Response
	plain    wire.Response
}

// informational is a response of 1xx.
type informational struct {
	code   int
	header http.Header
}

// data implements owner.
func (s *stream) data(n int) (flaw string) {
	if s.head == nil || s.bare && n > 0 {
		return "DATA where there is none"
	}
	return ""
}

// ended implements owner. What its caller still has to say, nobody will read.
func (s *stream) ended() {
	if !s.sent {
		s.l.reset(s.id, http2.ErrCodeNo)
	}
	s.l.remove(&s.flow)
}

// removed implements owner.
func (s *stream) removed() {
	if s.body != nil {
		go func() { _ = s.body.Close() }() // ends a Read
	}
}

// abort ends the stream at the server, and its response with an error.
func (s *stream) abort(err error) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.breakOff(http2.ErrCodeCancel, err)
}

// take takes a block of headers; last: it ends the stream. It returns what is wrong with them.
func (s *stream) take(fields []hpack.HeaderField, last bool) (flaw string) {
	if s.head != nil {
		if !last {
			return "headers after its head that do not end it"
		}
		s.trailers = append(s.last[:0], fields...)
		return flawOf(fields)
	}
	if len(fields) == 0 || fields[0].Name != ":status" {
		return "no status"
	}
	status, err := strconv.Atoi(fields[0].Value)
	if err != nil || len(fields[0].Value) != 3 || status < 100 || status == http.StatusSwitchingProtocols {
		return "a status of " + strconv.Quote(fields[0].Value)
	}
	fields = fields[1:]
	if flaw := flawOf(fields); flaw != "" {
		return flaw
	}
	if status < http.StatusOK {
		if last || len(s.early) == wire.MaxInformational {
			return "too much before its head"
		}
		s.early = append(s.early, informational{status, wire.AddFields(nil, fields)})
		return ""
	}
	length, lengths := int64(-1), 0
	for _, f := range fields {
		if f.Name != "content-length" {
			continue
		}
		n, err := strconv.ParseUint(f.Value, 10, 63)
		if lengths++; lengths > 1 || err != nil {
			return "its content-length"
		}
		length = int64(n)
	}
	s.bare = s.bare || status == http.StatusNoContent || status == http.StatusNotModified
	if s.bare {
		length = -1
	}
	s.status, s.head, s.length = status, append(s.few[:0], fields...), length
	return ""
}

// flawOf is what is wrong with fields (RFC 9113, section 8.2).
func flawOf(fields []hpack.HeaderField) string {
	for _, f := range fields {
		for i := range len(f.Name) {
			if c := f.Name[i]; 'A' <= c && c <= 'Z' {
				return "a header name in upper case"
			}
		}
		if !httpguts.ValidHeaderFieldName(f.Name) || !httpguts.ValidHeaderFieldValue(f.Value) {
			return "a header that HTTP does not allow"
		}
	}
	return ""
}

// body is that of a response.
type body struct{ *stream }

// Read implements io.Reader.
func (b body) Read(p []byte) (int, error) {
	n, err := b.receive(p)
	if errors.Is(err, io.EOF) {
		b.finish()
	}
	return n, err
}

// Whole is for wire.Whole.
func (b body) Whole() ([]byte, bool) {
	b.l.mu.Lock()
	all, ok := b.rest()
	b.l.mu.Unlock()
	if ok {
		b.finish()
	}
	return all, ok
}

// finish is for a response that was read to its end. Nobody else writes to it any more.
func (s *stream) finish() {
	if s.trailers != nil {
		s.response.Trailer = wire.AddFields(s.response.Trailer, s.trailers)
		s.trailers = nil
	}
	s.stop()
}

// Close implements io.Closer. It ends a Read that is under way.
func (b body) Close() error {
	b.stop()
	b.abort(errClosed)
	return nil
}

// Await implements wire.Exchange.
func (s *stream) Await(ctx context.Context, informed func(code int, header http.Header) error) (*http.Response, error) {
	for {
		s.l.mu.Lock()
		early := s.early
		s.early = nil
		ready, err := s.head != nil, s.err
		s.l.mu.Unlock()
		for _, e := range early {
			if err := informed(e.code, e.header); err != nil {
				s.abort(err)
				return nil, err
			}
		}
		switch {
		case ready:
			return s.respond(ctx), nil
		case err != nil:
			return nil, err
		}
		select {
		case <-s.news:
		case <-ctx.Done():
			s.abort(context.Cause(ctx))
			return nil, context.Cause(ctx)
		}
	}
}

// respond makes the response of a head.
func (s *stream) respond(ctx context.Context) *http.Response {
	res := &s.response
	res.Status, res.StatusCode = statusText(s.status), s.status
	res.Proto, res.ProtoMajor = "HTTP/2.0", 2
	res.Header = wire.AddFields(make(http.Header, len(s.head)+2), s.head) // who passes it on may add some
	if announced, ok := res.Header["Trailer"]; ok {
		delete(res.Header, "Trailer")
		res.Trailer = make(http.Header, len(announced))
		for _, key := range announced {
			res.Trailer[http.CanonicalHeaderKey(key)] = nil
		}
	}
	s.l.mu.Lock()
	whole, empty := s.whole, len(s.in) == 0
	res.ContentLength = s.length + int64(len(s.in))
	if s.length < 0 {
		res.ContentLength = -1
	}
	s.l.mu.Unlock()
	s.stop = func() bool { return true }
	if whole && empty && s.trailers == nil {
		res.Body, res.ContentLength = http.NoBody, max(res.ContentLength, 0)
		return res
	}
	res.Body = body{s}
	if !whole {
		s.stop = context.AfterFunc(ctx, func() { s.abort(context.Cause(ctx)) })
	}
	return res
}

func statusText(status int) string {
	switch status { // nearly always
	case http.StatusOK:
		return "200 OK"
	case http.StatusAccepted:
		return "202 Accepted"
	}
	return strconv.Itoa(status) + " " + http.StatusText(status)
}
