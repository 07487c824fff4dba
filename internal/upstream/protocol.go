package upstream

import (
	"context"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// What a service may not understand, as causes of a call that no endpoint takes.
const (
	// NeedsHTTP2: a gRPC call to a service without HTTP/2. Its status is in the trailers.
	NeedsHTTP2 = "needs-http2"
	// UnknownProtocol: the service has answered 415 to a call of that media type, or as it would in gRPC.
	UnknownProtocol = "unknown-protocol"
)

// Protocol is the protocol of a unary call, and what a route says that its service speaks.
type Protocol uint8

// AnyProtocol is that of a call which we do not know; of a service: what its endpoints show.
const (
	AnyProtocol Protocol = iota
	OnlyConnect
	OnlyGRPCWeb
	OnlyGRPC
)

// MediaType is the media type of a Content-Type, without its parameters and in lower case.
func MediaType(header http.Header) string {
	raw := header.Get("Content-Type")
	if raw == strings.ToLower(raw) && !strings.ContainsAny(raw, "; \t") {
		return raw // as nearly always
	}
	if kind, _, err := mime.ParseMediaType(raw); err == nil {
		return kind
	}
	kind, _, _ := strings.Cut(raw, ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// IsGRPC tells whether a message is one of gRPC or gRPC-Web.
func IsGRPC(header http.Header) bool { return strings.HasPrefix(MediaType(header), "application/grpc") }

// Written tells how the message of a unary call is written: its media type, and its compression;
// empty where there is none.
func (req *Request) Written() (mediaType, compression string) {
	mediaType, compression = MediaType(req.Header), req.Header.Get("Content-Encoding")
	switch {
	case req.Method == http.MethodGet: // of Connect
		query := req.URL.Query()
		mediaType, compression = "application/"+query.Get("encoding"), query.Get("compression")
	case strings.HasPrefix(mediaType, "application/grpc"):
		compression = req.Header.Get("Grpc-Encoding")
	}
	if compression == "identity" {
		compression = ""
	}
	return mediaType, compression
}

// protocolOf is the protocol that has messages of a media type.
func protocolOf(mediaType string) Protocol {
	switch {
	case mediaType == "application/json", mediaType == "application/proto":
		return OnlyConnect
	case strings.HasPrefix(mediaType, "application/grpc-web"):
		return OnlyGRPCWeb
	case strings.HasPrefix(mediaType, "application/grpc"):
		return OnlyGRPC
	}
	return AnyProtocol
}

func isJSON(mediaType string) bool { return strings.HasSuffix(mediaType, "+json") }

// remembered is for how long a service is known not to understand a protocol. It may be another
// one after an outage, and calls that are refused for that would never find out.
const remembered = 10 * time.Minute

// newLacks are the media types of which we remember whether a service understands them: those
// that callers' libraries use. Any other type may be the invention of one caller.
func newLacks() map[string]*lacking {
	all := map[string]*lacking{"application/json": {}, "application/proto": {}}
	for _, family := range []string{"application/grpc", "application/grpc-web", "application/grpc-web-text"} {
		all[family] = &lacking{}
		all[family+"+proto"], all[family+"+json"] = all[family], &lacking{}
	}
	return all
}

// lacking is what a service was seen not to understand, and when, in Unix nanoseconds; 0: never,
// or it has been seen to since.
type lacking struct{ at atomic.Int64 }

// lacksOne takes note that a call was not understood.
func (p *Pool) lacksOne(l *lacking) {
	l.note(true)
	p.picky.Store(true)
}

func (l *lacking) note(is bool) {
	switch {
	case is:
		l.at.Store(time.Now().UnixNano())
	case l.at.Load() != 0:
		l.at.Store(0)
	}
}

func (l *lacking) recently() bool {
	at := l.at.Load()
	return at != 0 && time.Since(time.Unix(0, at)) < remembered
}

// failsAsGRPC tells whether a response is an error of gRPC without any message.
func (res *Response) failsAsGRPC() bool {
	status, contentType := res.Header.Get("Grpc-Status"), MediaType(res.Header)
	return status != "" && status != "0" && strings.HasPrefix(contentType, "application/grpc") && !strings.HasPrefix(contentType, "application/grpc-web")
}

// failsAlike tells whether the endpoint answers a question for its health, in the protocol of a
// call, just as it has answered the call. Then it has understood neither of them. This has to be asked: gRPC-Web has
// the same messages as gRPC, so a server that only knows gRPC may have run the call; and servers of grpc-go take
// JSON for the binary format, and say of a message that it cannot be read, which a handler may say too.
func (e *Endpoint) failsAlike(ctx context.Context, req *Request, res *Response, major int) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	message := "\x00\x00\x00\x00\x00"
	if isJSON(MediaType(req.Header)) {
		if string(req.Body) == message {
			return false // in the binary format it is a message, too
		}
		message = "\x00\x00\x00\x00\x02{}"
	}
	// A server may fail all questions alike, because of what is behind it.
	asGRPC := http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	return e.failsSo(ctx, major, http.Header{"Content-Type": req.Header["Content-Type"], "Te": req.Header["Te"]}, message, res) &&
		!e.failsSo(ctx, 2, asGRPC, "\x00\x00\x00\x00\x00", res)
}

// failsSo tells whether the endpoint answers a question for its health with the error of a response.
func (e *Endpoint) failsSo(ctx context.Context, major int, header http.Header, message string, res *Response) bool {
	question, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url.JoinPath("grpc.health.v1.Health", "Check").String(), strings.NewReader(message))
	if err != nil {
		return false
	}
	question.Header = header
	answer, err := e.asking[of(major)].transport.RoundTrip(question)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	for _, key := range []string{"Content-Type", "Grpc-Status", "Grpc-Message"} {
		if !slices.Equal(answer.Header[key], res.Header[key]) {
			return false
		}
	}
	return true
}

// judge classifies the response to a unary call by its head, and takes note of whether the call was
// understood. A codec that no library uses is a matter between caller and service. A call that was not understood tells
// nothing of other calls if it is written in a way of its own: compressed, with a parameter of its type,
// or as a GET.
func (e *Endpoint) judge(ctx context.Context, req *Request, res *Response, major int) Outcome {
	mediaType, compression := req.Written()
	lack := e.pool.lacks[mediaType]
	if lack == nil {
		return res.look(AnyProtocol)
	}
	asked := protocolOf(mediaType)
	outcome := res.look(asked)
	// No message of Connect is one of gRPC, so nothing ran.
	if outcome.Kind == Answered && res.failsAsGRPC() &&
		(asked == OnlyConnect && res.StatusCode == http.StatusOK || (asked == OnlyGRPCWeb || isJSON(mediaType)) && e.failsAlike(ctx, req, res, major)) {
		outcome = Outcome{Unsendable, UnknownProtocol}
	}
	switch {
	case outcome.Kind == Answered:
		lack.note(false)
	case outcome.Cause == UnknownProtocol && compression == "" && req.Header.Get("Content-Type") == mediaType && req.Method == http.MethodPost:
		e.pool.lacksOne(lack)
	}
	return outcome
}

// Refuses tells whether all endpoints have lately shown that they do not understand a call's protocol, and the
// cause.
func (p *Pool) Refuses(req *Request) (cause string, refused bool) {
	if !p.picky.Load() {
		return "", false
	}
	mediaType, _ := req.Written()
	return p.Lacks(mediaType)
}

// Lacks is Refuses for all unary calls of a media type.
func (p *Pool) Lacks(mediaType string) (cause string, lacks bool) {
	spoken := protocolOf(mediaType)
	switch lack := p.lacks[mediaType]; {
	case p.protocol != AnyProtocol && p.protocol != spoken:
		return UnknownProtocol, true
	case lack != nil && lack.recently():
		return UnknownProtocol, true
	case spoken == OnlyGRPC && (p.http == OnlyHTTP1 || p.lacksHTTP2.recently()):
		return NeedsHTTP2, true
	}
	return "", false
}
