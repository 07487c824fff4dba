package bridge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/coding"
	"holdline/internal/contract"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

// Bridge sends calls to endpoints that do not speak as their callers do: it is a server of the
// caller's protocol and a client in the endpoint's. It is safe for concurrent use.
type Bridge struct {
	schemas *route.Schemas
	hooks   Hooks
	clients map[Speech]*connect.Client
	servers Handlers
}

// Hooks are called while calls cross the bridge. They may be called at once.
type Hooks struct {
	// Doubt is called when an answer has fields that its schema does not know, which JSON cannot carry.
	Doubt func(service string)
	// Unwritten is called when a caller gets our error in place of an answer.
	Unwritten func(method *route.Method, err *connect.Error)
}

// New returns a bridge for the methods that the schemas have.
func New(schemas *route.Schemas, hooks Hooks) *Bridge {
	b := &Bridge{schemas: schemas, hooks: hooks, clients: map[Speech]*connect.Client{}}
	for _, speech := range append(slices.Clone(unary), streams...) {
		// The host is a placeholder: the exchange has its endpoint.
		b.clients[speech] = connect.NewClient(connecthttp.NewTransport(sender{}, "http://service", speech.Options(schemas)...))
	}
	b.servers = NewHandlers(func(method *route.Method) connect.ServerFunc {
		return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
			if !method.Unary {
				return b.serveStream(ctx, method, spec, stream)
			}
			return b.serve(ctx, method, spec, stream)
		}
	}, nil, connecthttp.WithReadMaxBytes(MaxMessage), connecthttp.WithCompressMinBytes(minCompress),
		connecthttp.WithCompressors(coding.Compressors()...), connecthttp.WithCodecs(NewBinaryCodec(schemas), NewJSONCodec(schemas)))
	return b
}

// Speaks tells whether the bridge can speak so to a service.
func (b *Bridge) Speaks(s Speech) bool { return b.clients[s] != nil }

// minCompress is the smallest answer, in bytes, that is compressed.
const minCompress = 1 << 10

// exchange is one call at one endpoint.
type exchange struct {
	endpoint *upstream.Endpoint
	method   *route.Method
	hooks    Hooks
	req      *upstream.Request // the caller's
	to       Speech
	less     bool

	sent []byte             // the message, of a call that was plain
	came *upstream.Response // to that

	outcome upstream.Outcome
	status  int           // of the endpoint's response; 0 without one
	head    http.Header   // of that response
	body    *Body         // of that response
	err     error         // of the attempt, or why there was none
	tried   chan struct{} // of a stream: closed after the attempt
	refused atomic.Bool   // a message of the caller's stream was none
	piped   *piped        // of a stream
}

type exchangeKey struct{}

// Try is upstream.Endpoint's Try, for a stream, or a unary call whose body is at hand. The endpoint is spoken to in
// another way, and the response is in the protocol and codec of the caller. less: what the schema does not know
// of the message may be left out, as it always is of a stream's.
func (b *Bridge) Try(ctx context.Context, endpoint *upstream.Endpoint, method *route.Method, req *upstream.Request, to Speech, less bool) (*upstream.Response, upstream.Outcome, error) {
	x := &exchange{
		endpoint: endpoint, method: method, hooks: b.hooks, req: req, to: to, less: less,
		outcome: upstream.Outcome{Kind: upstream.Unsendable, Cause: Malformed},
	}
	if method.Unary && isPlain(req, to) {
		if res, ok := x.plain(ctx, method, b.schemas.Of(method.Service())); ok {
			return res, x.outcome, x.err
		}
	}
	in := &http.Request{
		Method: req.Method, URL: req.URL, Host: req.Host, ProtoMajor: req.HTTPMajor, Header: req.Header.Clone(),
		Body: io.NopCloser(bytes.NewReader(req.Body)), ContentLength: int64(len(req.Body)),
	}
	for _, key := range timeouts { // the exchange gives the endpoint what is left of it
		in.Header.Del(key)
	}
	in.Header.Del("Connect-Protocol-Version") // there is only one
	if raw := in.Header.Get("Content-Type"); method.Unary && upstream.Readable(raw) {
		in.Header.Set("Content-Type", upstream.MediaType(in.Header)) // connect takes no parameters but a charset
	}
	ctx, handler := context.WithValue(ctx, exchangeKey{}, x), WithText(b.servers.Of(method), !method.Unary)
	if !method.Unary {
		if method.Spec().StreamType == connect.StreamTypeBidi && !endpoint.SpeaksHTTP2() {
			return nil, upstream.Outcome{Kind: upstream.Unsendable, Cause: upstream.NeedsHTTP2}, errBothWays
		}
		return x.stream(ctx, handler, in)
	}
	rec := &recorder{header: http.Header{}}
	handler.ServeHTTP(rec, in.WithContext(ctx))
	x.came.Drop()
	if x.outcome.Cause != Malformed && (x.status == 0 || x.outcome.Kind == upstream.Broken || x.outcome.Kind == upstream.DeadlineOver || x.outcome.Kind == upstream.CallerLeft) {
		return nil, x.outcome, x.err
	}
	return upstream.NewResponse(rec.response()), x.outcome, nil
}

// BadMessage is the cause of a call that was not sent, since its message cannot be read, and LossyMessage of one
// that would lose something on the way. The error of Try is then what its caller is to be told. Malformed is the cause of a call
// that is none of its own protocol; then the response says so, and no service has seen the call.
const (
	BadMessage   = "bad-message"
	LossyMessage = "lossy-message"
	Malformed    = "malformed"
	Unwritten    = "answer-not-written"
)

// errBothWays says that a stream was not sent.
var errBothWays = errors.New("HTTP/1.1 has no stream in both directions")

// timeouts are the headers of a caller's deadline.
var timeouts = [...]string{"Connect-Timeout-Ms", "Grpc-Timeout"}

// serve is the server's side of a call, and calls the endpoint.
func (b *Bridge) serve(ctx context.Context, method *route.Method, spec connect.Spec, stream connect.ServerStream) error {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	caller, _ := connect.CallInfoForServerContext(ctx)
	types := b.schemas.Of(method.Service())
	if x.came == nil {
		asked := Message{JSON: IsJSON(caller), Desc: method.Descriptor.Input()}
		if err := stream.Receive(&asked); err != nil {
			return x.refuse(BadMessage, err)
		}
		var err error
		if x.sent, err = x.translated(&asked, types, caller.Protocol); err != nil {
			return err
		}
	}
	sent, answer := Message{JSON: x.to.JSON, Bytes: x.sent}, Message{Desc: method.Descriptor.Output()}
	out, service := connect.NewClientContext(ctx)
	pass(service.RequestHeader(), caller.RequestHeader().All())
	err := b.clients[x.to].CallUnary(out, spec, &sent, &answer)
	if x.status == 0 {
		return err // nobody reads it
	}
	pass(caller.ResponseHeader(), service.ResponseHeader().All())
	pass(caller.ResponseTrailer(), service.ResponseTrailer().All())
	if err != nil {
		return x.failed(ctx, err, service)
	}
	if answer.Bytes, err = x.answer(&answer, IsJSON(caller), types); err != nil {
		return x.unwritten(momv1.Reason_REASON_ANSWER_UNREADABLE,
			"the call was executed, but its answer cannot be written as %s: %v", caller.Codec, err)
	}
	answer.JSON = IsJSON(caller)
	return stream.Send(&answer)
}

// translated is the message of a call of a protocol as the endpoint reads it. If there is none, the call is refused.
func (x *exchange) translated(asked *Message, types *route.Schemas, protocol string) ([]byte, error) {
	if asked.JSON && len(asked.Bytes) == 0 && protocol == connect.ProtocolNameConnect {
		return nil, x.refuse(BadMessage, connect.NewError(connect.CodeInvalidArgument, "the message cannot be read: it is empty, which is no JSON"))
	}
	raw, err := asked.In(x.to.JSON, types, x.less)
	if err != nil {
		cause := BadMessage
		if !x.less {
			cause = LossyMessage
		}
		return nil, x.refuse(cause, connect.Errorf(connect.CodeInvalidArgument, "the message cannot be read: %v", err))
	}
	return raw, nil
}

// answer is a message of the service as the caller reads it.
func (x *exchange) answer(came *Message, isJSON bool, types *route.Schemas) ([]byte, error) {
	raw, err := came.In(isJSON, types, true)
	if came.lossy {
		x.hooks.Doubt(x.method.Service())
	}
	return raw, err
}

// unwritten is our error in place of an answer.
func (x *exchange) unwritten(reason momv1.Reason, format string, args ...any) error {
	err := contract.Errorf(reason, format, args...)
	x.hooks.Unwritten(x.method, err)
	if x.piped == nil {
		x.outcome.Cause = Unwritten
	}
	return err
}

// refuse is for a call that is not sent, because of its message.
func (x *exchange) refuse(cause string, err error) error {
	var rpcErr *connect.Error
	if !errors.As(err, &rpcErr) {
		rpcErr = connect.NewError(connect.CodeInvalidArgument, err.Error())
	}
	x.outcome, x.err = upstream.Outcome{Kind: upstream.Unsendable, Cause: cause}, rpcErr
	return rpcErr
}

// failed is what the caller hears of a call that did not bring a message: what the service says, or that its
// answer broke off.
func (x *exchange) failed(ctx context.Context, err error, service *connect.CallInfo) error {
	var rpcErr *connect.Error
	switch {
	case !errors.As(err, &rpcErr), rpcErr.IsRemote(), x.status != http.StatusOK, x.outcome.Kind != upstream.Answered:
	case TooLarge(err) && x.piped != nil:
		return x.unwritten(momv1.Reason_REASON_ANSWER_TOO_LARGE, "the call was broken off: a message of its answer is larger than %d bytes; call in the protocol of the service", MaxMessage)
	case TooLarge(err):
		return x.unwritten(momv1.Reason_REASON_ANSWER_TOO_LARGE, "the call was executed, and its answer is larger than %d bytes: call in the protocol of the service", MaxMessage)
	case x.refused.Load(): // it is we who have ended it, and the caller hears why
	case x.piped != nil && (ctx.Err() != nil || x.body.BrokeOff(err)):
		x.piped.breakOff(err)
	case ctx.Err() != nil, x.body.BrokeOff(err):
		x.outcome, x.err = upstream.BrokeOff(ctx, err), err
	}
	return contract.AnswerError(CallError(err, service))
}

// pass copies what application writes to application.
func pass(to *connect.Header, from iter.Seq2[string, []string]) {
	for key, values := range from {
		if !OfTransport(key) {
			to.SetValues(key, values)
		}
	}
}

// IsJSON tells the codec of a call. A charset goes with connect's name of it.
func IsJSON(info *connect.CallInfo) bool { return strings.HasPrefix(info.Codec, connect.CodecNameJSON) }

// sender is the HTTP client of all clients: it sends to the endpoint of the exchange.
type sender struct{}

// Do implements connecthttp.HTTPClient.
func (sender) Do(req *http.Request) (*http.Response, error) {
	x, _ := req.Context().Value(exchangeKey{}).(*exchange)
	res := x.came
	if x.piped != nil {
		defer close(x.tried)
	}
	if res == nil {
		major := x.req.HTTPMajor
		if x.piped != nil {
			major = 2 // it may be needed both ways
		}
		out, err := upstream.Made(req, major)
		if err != nil {
			return nil, err
		}
		out.Look, out.Known = x.piped == nil, x.piped != nil
		if res, err = x.try(req.Context(), out); err != nil {
			return nil, err
		}
	}
	x.body = TakeLeniently(res.HTTP(), x.to.Protocol)
	if x.piped != nil { // an end of the request would be taken for all that its caller has to say
		end := x.body.close
		x.body.close = sync.OnceValue(func() error { return errors.Join(req.Body.Close(), end()) })
	}
	x.status, x.head = res.StatusCode, res.Header
	return res.Response, nil
}

// try makes the attempt, with what is the caller's.
func (x *exchange) try(ctx context.Context, out *upstream.Request) (res *upstream.Response, err error) {
	out.Host, out.Peer, out.Timeout, out.Informed = x.req.Host, x.req.Peer, x.req.Timeout, x.req.Informed
	if left, ok := contract.Timeout(x.req.Header, upstream.IsGRPC(x.req.Header)); ok {
		contract.SetTimeout(out.Header, x.to.Protocol != connect.ProtocolNameConnect, left)
	}
	res, x.outcome, x.err = x.endpoint.Try(ctx, out)
	return res, x.err
}

// recorder keeps a response.
type recorder struct {
	header, sent http.Header
	status       int
	body         bytes.Buffer
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status, r.sent = status, r.header.Clone()
	}
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}

// Flush implements http.Flusher.
func (r *recorder) Flush() {}

// response is what was written, as a client would see it.
func (r *recorder) response() *http.Response {
	r.WriteHeader(http.StatusOK)
	res := newResponse(r.status, r.sent, io.NopCloser(&r.body))
	res.ContentLength = int64(r.body.Len())
	addTrailers(res, r.header)
	if len(res.Trailer) == 0 {
		res.Header.Set("Content-Length", strconv.Itoa(r.body.Len()))
	}
	return res
}

// newResponse is a response of a handler, without trailers yet.
func newResponse(status int, header http.Header, body io.ReadCloser) *http.Response {
	maps.DeleteFunc(header, func(key string, _ []string) bool { return strings.HasPrefix(key, http.TrailerPrefix) })
	return &http.Response{
		StatusCode: status, Status: strconv.Itoa(status) + " " + http.StatusText(status), Header: header, Trailer: http.Header{},
		Body: body, ContentLength: -1,
	}
}

// addTrailers adds the trailers that a handler has left among its headers.
func addTrailers(res *http.Response, header http.Header) {
	for key, values := range header {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok {
			res.Trailer[name] = values
		}
	}
}
