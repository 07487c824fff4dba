package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"time"

	"holdline/internal/contract"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

// maxReplay is the largest request body, in bytes, that is kept to be sent more
// than once. A larger one streams through, in one try.
const maxReplay = 1 << 20

// target is where the calls of one service go.
type target struct {
	route *route.Route
	pool  *upstream.Pool
}

// proxy sends calls to their services. Bytes go through untouched, in the
// version of HTTP that the caller spoke.
type proxy struct {
	targets map[string]*target
	schemas *route.Schemas
	log     *slog.Logger
}

// call is one call on its way.
type call struct {
	target *target
	method *route.Method // nil without a schema
	req    upstream.Request
	cancel context.CancelCauseFunc
	// deadline is the caller's, nil without one. It is stopped with the
	// response's headers: from then on service and caller keep it themselves.
	deadline *time.Timer
}

// unary calls have one message each way, which may be kept and looked at.
func (c *call) unary() bool { return c.method != nil && c.method.Unary }

func (c *call) repeatable() bool { return c.method != nil && c.method.Repeatable }

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	service, _, ok := route.SplitProcedure(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	target := p.targets[service]
	if target == nil {
		contract.WriteError(w, r, noRoute(service))
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	c := &call{target: target, method: p.schemas.Method(r.URL.Path), cancel: cancel}
	if timeout, ok := contract.Timeout(r.Header); ok {
		c.deadline = time.AfterFunc(timeout, func() { cancel(upstream.ErrDeadline) })
		defer c.deadline.Stop()
	}
	cleanRequest(r.Header)
	c.req = upstream.Request{In: r, Header: r.Header, Length: r.ContentLength, Look: c.unary()}
	if err := c.readBody(w); err != nil {
		contract.WriteError(w, r, badBody(err))
		return
	}
	p.direct(ctx, w, c)
}

// direct sends the call to its service.
func (p *proxy) direct(ctx context.Context, w http.ResponseWriter, c *call) {
	endpoint := c.target.pool.Pick(nil)
	res, outcome, err := endpoint.Try(ctx, &c.req)
	if c.deadline != nil {
		c.deadline.Stop()
	}
	if err != nil {
		p.log.Debug("attempt failed", "procedure", c.req.In.URL.Path, "endpoint", endpoint, "cause", outcome.Cause, "error", err)
	}
	refusal := refuse(outcome, c)
	switch {
	case refusal == nil && res == nil: // the caller left
	case refusal == nil:
		respond(w, c, res)
	default:
		if res != nil {
			c.cancel(nil)
			_ = res.Body.Close()
		}
		contract.WriteError(w, c.req.In, refusal)
	}
}

// readBody reads a unary call's body, so that it can be sent again, and so that
// no slow caller occupies a service. Everything else streams.
func (c *call) readBody(w http.ResponseWriter) error {
	in := c.req.In
	if !c.unary() {
		if in.ContentLength != 0 {
			c.req.Stream = in.Body
			if in.ProtoMajor == 1 {
				// Else the first byte of the response would end the request.
				return http.NewResponseController(w).EnableFullDuplex()
			}
		}
		return nil
	}
	if in.ContentLength > maxReplay {
		c.req.Stream = in.Body
		return nil
	}
	if in.ContentLength >= 0 {
		c.req.Body = make([]byte, in.ContentLength)
		_, err := io.ReadFull(in.Body, c.req.Body)
		return err
	}
	var err error
	c.req.Body, err = io.ReadAll(io.LimitReader(in.Body, maxReplay+1))
	if len(c.req.Body) > maxReplay {
		c.req.Stream = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(c.req.Body), in.Body), in.Body}
	}
	return err
}

// buffers holds what bodies are copied through.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// respond passes the response on. It ends the request itself: on a full-duplex
// stream, closing the response waits for the request's writer, which waits for
// the caller, who waits for the trailers. So: trailers, cancel, close.
func respond(w http.ResponseWriter, c *call, res *upstream.Response) {
	header := w.Header()
	cleanHop(res.Header)
	for key, values := range res.Header {
		if key == "Vary" { // CORS has set one already
			values = append(header[key], values...)
		}
		header[key] = values
	}
	silence(header, "Date", "Content-Type")
	// A unary answer ends soon, so HTTP/2 may put its head, its message and its
	// end into one write; HTTP/1.1 has to be told to use chunks.
	flush := res.ContentLength < 0 && res.Body != http.NoBody
	if c.unary() && c.req.In.ProtoMajor == 2 {
		flush = false
		silence(header, "Content-Length")
	}
	w.WriteHeader(res.StatusCode)
	controller := http.NewResponseController(w)
	if flush {
		_ = controller.Flush()
	}
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	for {
		n, err := res.Read(buffer[:])
		if n > 0 {
			if _, writeErr := w.Write(buffer[:n]); writeErr != nil {
				break // the caller left
			}
			if flush {
				_ = controller.Flush()
			}
		}
		if errors.Is(err, io.EOF) {
			if len(res.Trailer) > 0 {
				clear(header) // all of it is sent
				for key, values := range res.Trailer {
					header[http.TrailerPrefix+key] = values
				}
			}
			break
		}
		if err != nil {
			c.cancel(nil)
			_ = res.Body.Close()
			panic(http.ErrAbortHandler) // broken there, so broken here
		}
	}
	c.cancel(nil)
	_ = res.Body.Close()
}

// silence keeps net/http from inventing headers that the other side did not send.
func silence(header http.Header, keys ...string) {
	for _, key := range keys {
		if _, ok := header[key]; !ok {
			header[key] = nil
		}
	}
}

// forwarded are the Holdline-* headers that callers may send.
var forwarded = map[string]bool{
	contract.HeaderTTL: true, contract.HeaderAnswerTTL: true,
	contract.HeaderMode: true, contract.HeaderExplain: true,
}

// cleanRequest removes what belongs to this hop, and the headers by which the
// gateway itself speaks to the MOM.
func cleanRequest(header http.Header) {
	trailers := strings.Contains(header.Get("Te"), "trailers")
	cleanHop(header)
	if trailers {
		header["Te"] = []string{"trailers"} // gRPC insists on it, end to end
	}
	silence(header, "User-Agent")
	for key := range header {
		if strings.HasPrefix(key, "Holdline-") && !forwarded[key] {
			delete(header, key)
		}
	}
}

// cleanHop removes hop-by-hop headers (RFC 9110, section 7.6.1).
func cleanHop(header http.Header) {
	for _, field := range header["Connection"] {
		for name := range strings.SplitSeq(field, ",") {
			delete(header, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
	for _, key := range [...]string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate",
		"Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	} {
		delete(header, key)
	}
}
