package bridge

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

// stream is Try for a stream. The handler runs until the response is closed.
func (x *exchange) stream(ctx context.Context, handler http.Handler, in *http.Request) (*upstream.Response, upstream.Outcome, error) {
	outer := ctx
	ctx, cancel := context.WithCancel(outer)
	reading := io.ReadCloser(http.NoBody)
	if x.req.Stream != nil {
		reading = x.req.Stream.Reader()
	}
	in.Body, in.ContentLength = reading, x.req.Length
	in.ProtoMajor = 2 // connect refuses HTTP/1.1 for both ways, which some callers can use
	x.tried = make(chan struct{})
	body, writing := io.Pipe()
	x.piped = &piped{header: http.Header{}, begun: make(chan struct{}), body: body, out: writing, letGo: reading.Close}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer context.AfterFunc(ctx, func() { _ = reading.Close() })()
		handler.ServeHTTP(x.piped, in.WithContext(ctx))
		x.piped.end()
	}()
	end := func() {
		cancel()
		_ = reading.Close()
		_ = body.Close()
		<-ended
	}
	<-x.piped.begun
	if x.refused.Load() && outer.Err() == nil && x.status == 0 {
		x.outcome = upstream.Outcome{Kind: upstream.Unsendable, Cause: Malformed}
	}
	if x.outcome.Cause != Malformed && (x.status == 0 || x.outcome.Foreign()) {
		end()
		return nil, x.outcome, x.err
	}
	x.piped.res.Body = closing{body, end}
	return upstream.NewResponse(x.piped.res), x.outcome, nil
}

// closing is a body that ends what writes it.
type closing struct {
	io.Reader
	end func()
}

// Close implements io.Closer.
func (c closing) Close() error {
	c.end()
	return nil
}

// piped is a response that is read while it is written.
type piped struct {
	header http.Header
	begun  chan struct{} // closed when there is a head
	res    *http.Response
	body   *io.PipeReader
	out    *io.PipeWriter
	letGo  func() error // ends a read of the caller's body
}

// Header implements http.ResponseWriter.
func (p *piped) Header() http.Header { return p.header }

// WriteHeader implements http.ResponseWriter.
func (p *piped) WriteHeader(status int) {
	if p.res == nil {
		p.res = newResponse(status, p.header.Clone(), p.body)
		close(p.begun)
	}
}

// Write implements http.ResponseWriter.
func (p *piped) Write(b []byte) (int, error) {
	p.WriteHeader(http.StatusOK)
	return p.out.Write(b)
}

// Flush implements http.Flusher.
func (p *piped) Flush() { p.WriteHeader(http.StatusOK) }

// breakOff has the response end as that of the service did: it is not whole.
func (p *piped) breakOff(err error) { _ = p.out.CloseWithError(err) }

func (p *piped) end() {
	p.WriteHeader(http.StatusOK)
	addTrailers(p.res, p.header)
	_ = p.out.Close()
}

// serveStream is serve for streams.
func (b *Bridge) serveStream(ctx context.Context, method *route.Method, spec connect.Spec, stream connect.ServerStream) error {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	caller, _ := connect.CallInfoForServerContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer x.cut() // however it ends
	out, service := connect.NewClientContext(ctx)
	pass(service.RequestHeader(), caller.RequestHeader().All())
	c := &crossing{x: x, stream: stream, caller: caller, service: service, method: method, types: b.schemas.Of(method.Service())}
	up := make(chan error, 1)
	var err error
	if spec.StreamType == connect.StreamTypeServer {
		asked, bad := c.next()
		switch {
		case ctx.Err() != nil:
			x.outcome, x.err = upstream.BrokeOff(ctx, bad), ctx.Err()
			return bad
		case bad != nil:
			return x.refuse(BadMessage, bad)
		}
		up <- nil
		c.client, err = b.clients[x.to].CallServerStream(out, spec, asked)
	} else {
		c.client, err = b.clients[x.to].CallClientStream(out, spec)
	}
	if err != nil {
		return err
	}
	if spec.StreamType != connect.StreamTypeServer {
		go func() {
			err := c.up()
			if err != nil && ctx.Err() == nil {
				x.refused.Store(true)
			}
			if up <- err; err != nil {
				cancel()
			}
		}()
		<-x.tried
	}
	// Nothing else ends a Read of an answer whose request is still open. And the service must see that the stream is cut: if
	// connect closed the request first, it would take what has come for all.
	defer context.AfterFunc(ctx, x.cut)()
	err = c.down(ctx)
	select {
	case refused := <-up:
		if err == nil { // the service has ended the stream
			return nil
		}
		return cmp.Or(refused, err)
	default: // the stream is over while its caller still has something to say
	}
	x.cut()
	_ = c.client.Close()
	_ = x.piped.letGo()
	<-up
	return err
}

// cut ends the stream at the service.
func (x *exchange) cut() {
	if x.body != nil {
		_ = x.body.Close()
	}
}

// crossing is a stream on its way in both directions.
type crossing struct {
	x               *exchange
	stream          connect.ServerStream // from and to the caller
	client          connect.ClientStream // to and from the service
	caller, service *connect.CallInfo
	method          *route.Method
	types           *route.Schemas
}

// next is the caller's next message, as the service reads it. io.EOF.
func (c *crossing) next() (*Message, error) {
	asked := Message{JSON: IsJSON(c.caller), Desc: c.method.Descriptor.Input()}
	if err := c.stream.Receive(&asked); err != nil {
		return nil, err
	}
	raw, err := asked.In(c.x.to.JSON, c.types, true)
	if err != nil {
		return nil, connect.Errorf(connect.CodeInvalidArgument, "the message cannot be read: %v", err)
	}
	return &Message{JSON: c.x.to.JSON, Bytes: raw}, nil
}

// up opens the stream, and sends what the caller sends. The error is one of the caller's messages.
func (c *crossing) up() error {
	if c.client.SendHeaders() != nil {
		return nil //nolint:nilerr // down hears why
	}
	for {
		asked, err := c.next()
		switch {
		case errors.Is(err, io.EOF):
			_ = c.client.CloseSend()
			return nil
		case err != nil:
			return err
		}
		if c.client.Send(asked) != nil {
			return nil //nolint:nilerr // down hears why
		}
	}
}

// down sends what the service sends, its head as soon as there is one.
func (c *crossing) down(ctx context.Context) error {
	trailersOnly := c.x.head.Get("Grpc-Status") != "" // gRPC has written them into the head
	if c.x.status == http.StatusOK && !trailersOnly {
		pass(c.caller.ResponseHeader(), maps.All(c.x.head))
		if err := c.stream.SendHeaders(); err != nil {
			return err
		}
	}
	for {
		answer := Message{Desc: c.method.Descriptor.Output()}
		err := c.client.Receive(&answer)
		if err != nil {
			pass(c.caller.ResponseTrailer(), c.service.ResponseTrailer().All())
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return c.x.failed(ctx, err, c.service)
		}
		if answer.Bytes, err = c.x.answer(&answer, IsJSON(c.caller), c.types); err != nil {
			return c.x.unwritten(momv1.Reason_REASON_ANSWER_UNREADABLE,
				"the call was broken off: a message of its answer cannot be written as %s: %v", c.caller.Codec, err)
		}
		answer.JSON = IsJSON(c.caller)
		if err := c.stream.Send(&answer); err != nil {
			return err
		}
	}
}
