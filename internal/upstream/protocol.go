package upstream

import (
	"context"
	"errors"
	"maps"
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
	raw := ""
	if values := header["Content-Type"]; len(values) > 0 {
		raw = values[0]
	}
	if isBare(raw) { // as nearly always
		return raw
	}
	if kind, _, err := mime.ParseMediaType(raw); err == nil {
		return kind
	}
	kind, _, _ := strings.Cut(raw, ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// Readable tells whether what stands behind the media type of a Content-Type says nothing that a reader has to know: any charset but
// UTF-8 would.
func Readable(raw string) bool {
	_, params, err := mime.ParseMediaType(raw)
	charset, ok := params["charset"]
	return err == nil && (!ok || strings.EqualFold(charset, "utf-8"))
}

// isBare tells whether a Content-Type is nothing but a media type in lower case.
func isBare(raw string) bool {
	for i := range len(raw) {
		switch c := raw[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '/', c == '+', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
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
		if mediaType, compression = query.Get("encoding"), query.Get("compression"); mediaType != "" {
			mediaType = "application/" + mediaType
		}
	case strings.HasPrefix(mediaType, "application/grpc"):
		compression = req.Header.Get("Grpc-Encoding")
	}
	if compression == "identity" {
		compression = ""
	}
	return mediaType, compression
}

// Ordinary tells whether a unary call is written as most are: not compressed, with a bare media type, and no GET.
func (req *Request) Ordinary() bool {
	mediaType, compression := req.Written()
	return compression == "" && req.Method == http.MethodPost && req.Header.Get("Content-Type") == mediaType
}

// protocolOf is the protocol that has messages of a media type.
func protocolOf(mediaType string) Protocol {
	switch {
	case mediaType == "application/json", mediaType == "application/proto", strings.HasPrefix(mediaType, "application/connect+"):
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
	all := map[string]*lacking{"application/json": {}, "application/proto": {}, "application/connect+json": {}, "application/connect+proto": {}}
	for _, family := range []string{"application/grpc", "application/grpc-web", "application/grpc-web-text"} {
		all[family] = &lacking{}
		all[family+"+proto"], all[family+"+json"] = all[family], &lacking{}
	}
	return all
}

// lacking is what a service was seen not to understand, and when, in Unix nanoseconds; 0: never,
// or it has been seen to since.
type lacking struct {
	at         atomic.Int64
	told       atomic.Int64 // when it was last seen not to take this for gRPC, likewise
	understood atomic.Bool  // once
}

// lacksOne takes note that a call was not understood. An endpoint that is gone says nothing of those that came after
// it.
func (e *Endpoint) lacksOne(l *lacking) {
	if !e.gone.Load() {
		l.note(true)
		e.pool.picky.Store(true)
	}
}

func (l *lacking) note(is bool) {
	switch {
	case is:
		l.at.Store(time.Now().UnixNano())
	case l.at.Load() != 0:
		l.at.Store(0)
	}
}

// understood takes note of a response to a call of this kind, likewise.
func (e *Endpoint) understood(l *lacking, status int) {
	if e.gone.Load() {
		return
	}
	l.note(false)
	if status == http.StatusOK && !l.understood.Load() {
		l.understood.Store(true)
	}
}

func (l *lacking) recently() bool { return recent(&l.at) }

func recent(when *atomic.Int64) bool {
	at := when.Load()
	return at != 0 && time.Since(time.Unix(0, at)) < remembered
}

// emptyMessage is a message without fields in its envelope, in the binary format.
const emptyMessage = "\x00\x00\x00\x00\x00"

// empty is the same as a media type has it.
func empty(mediaType string) string {
	if isJSON(mediaType) {
		return "\x00\x00\x00\x00\x02{}"
	}
	return emptyMessage
}

// failsAsGRPC tells whether a response is an error of gRPC without any message.
func (res *Response) failsAsGRPC() bool {
	status := res.Header.Get("Grpc-Status")
	return status != "" && status != "0" && speaksGRPC(res.Response)
}

// Heard are the media types of calls that the service has shown that it understands, and of those that it does
// not, as far as there were such calls or its route says so.
func (p *Pool) Heard() (understood, lacking []string) {
	for _, mediaType := range slices.Sorted(maps.Keys(p.lacks)) {
		if strings.HasPrefix(mediaType, "application/grpc") && strings.HasSuffix(mediaType, "+proto") {
			continue // the same as without
		}
		if _, lacks := p.Lacks(mediaType); lacks {
			lacking = append(lacking, mediaType)
		} else if p.lacks[mediaType].understood.Load() {
			understood = append(understood, mediaType)
		}
	}
	return understood, lacking
}

// failsAlike tells whether the endpoint answers a question for its health, in the protocol of a
// call, just as it has answered the call. Then it has understood neither of them. This has to be asked: gRPC-Web has
// the same messages as gRPC, so a server that only knows gRPC may have run the call.
func (e *Endpoint) failsAlike(ctx context.Context, req *Request, res *Response, major int) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	mediaType := MediaType(req.Header)
	if isJSON(mediaType) && string(req.Body) == emptyMessage {
		return false // in the binary format it is a message, too
	}
	// A server may fail all questions alike, because of what is behind it.
	asGRPC := http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	return e.failsSo(ctx, major, http.Header{"Content-Type": req.Header["Content-Type"], "Te": req.Header["Te"]}, empty(mediaType), res) &&
		!e.failsSo(ctx, 2, asGRPC, emptyMessage, res)
}

// failsSo tells whether the endpoint answers a question for its health with the error of a response.
func (e *Endpoint) failsSo(ctx context.Context, major int, header http.Header, message string, res *Response) bool {
	answer, err := e.askAs(ctx, major, header, message)
	if err != nil {
		return false
	}
	for _, key := range []string{"Content-Type", "Grpc-Status", "Grpc-Message"} {
		if !slices.Equal(answer.Header[key], res.Header[key]) {
			return false
		}
	}
	return true
}

// askAs asks the endpoint for its health with a message as it is, and returns the answer without its body.
func (e *Endpoint) askAs(ctx context.Context, major int, header http.Header, message string) (*http.Response, error) {
	question, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url.JoinPath("grpc.health.v1.Health", "Check").String(), strings.NewReader(message))
	if err != nil {
		return nil, err
	}
	question.Header = header
	answer, err := e.asking[of(major)].transport.RoundTrip(question)
	if err == nil {
		_ = answer.Body.Close()
	}
	return answer, err
}

// errMistakes says that a call was not sent.
var errMistakes = errors.New("the endpoint answers this protocol in gRPC")

// mistakes tells whether the endpoint would take a call for another one. Streams of all protocols have the same
// envelopes, and some servers of gRPC alone look at nothing else: they run the stream, and answer what its
// caller cannot read. Others take JSON in gRPC for the binary format. So before the first such call, the endpoint is asked for its
// health in the same form. Who answers that in gRPC does not speak another protocol; and who has no answer in JSON, or nothing but
// an error, may not know JSON in gRPC, while all know the binary format.
func (e *Endpoint) mistakes(ctx context.Context, req *Request, mediaType string) bool {
	lack, inGRPC := e.pool.lacks[mediaType], protocolOf(mediaType) == OnlyGRPC
	if lack == nil || inGRPC && !isJSON(mediaType) || e.pool.says.Load().Protocol != AnyProtocol && !inGRPC || recent(&lack.told) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	header := http.Header{"Content-Type": {mediaType}, "Te": {"trailers"}}
	major := max(e.versions.pick(req.HTTPMajor, inGRPC), 1)
	answer, err := e.askAs(ctx, major, header, empty(mediaType))
	if err != nil && e.versions.speaks(3-major) {
		answer, err = e.askAs(ctx, 3-major, header, empty(mediaType))
	}
	switch {
	case err != nil:
		return false // the call shows what there is
	case speaksGRPC(answer) && (!inGRPC || answer.Header.Get("Grpc-Status") != "" || !isJSON(MediaType(answer.Header))):
		e.lacksOne(lack)
		return true
	}
	if !e.gone.Load() {
		lack.told.Store(time.Now().UnixNano())
	}
	return false
}

// speaksGRPC tells whether a response is one of gRPC, and not of gRPC-Web.
func speaksGRPC(res *http.Response) bool { return protocolOf(MediaType(res.Header)) == OnlyGRPC }

// judgeStream is judge for a stream, whose messages may come late: it tells whether the endpoint understands
// the protocol.
func (e *Endpoint) judgeStream(ctx context.Context, req *Request, res *Response, major int) Outcome {
	mediaType := MediaType(req.Header)
	lack := e.pool.lacks[mediaType]
	if lack == nil {
		return Outcome{}
	}
	switch {
	case protocolOf(mediaType) != OnlyGRPC && speaksGRPC(res.Response):
		// Another program is there than the one that was asked. If it fails questions alike, it has understood nothing.
		e.lacksOne(lack)
		lack.told.Store(0)
		if res.failsAsGRPC() && e.failsAlike(ctx, req, res, major) {
			return Outcome{Unsendable, UnknownProtocol}
		}
		return Outcome{Broken, UnknownProtocol}
	case res.StatusCode != http.StatusUnsupportedMediaType:
		e.understood(lack, res.StatusCode)
		return Outcome{}
	}
	outcome := res.look(protocolOf(mediaType))
	if outcome.Cause == UnknownProtocol && req.Header.Get("Content-Type") == mediaType {
		e.lacksOne(lack)
	}
	return outcome
}

// unread classifies the response to a call of a method that no schema has, in a type of Connect's unary calls: its
// caller would find nothing in an empty 415, and take an error of gRPC for an answer. No message of Connect is one of gRPC, so
// nothing ran.
func (res *Response) unread() Outcome {
	switch {
	case res.StatusCode == http.StatusUnsupportedMediaType:
		return res.look(OnlyConnect)
	case res.StatusCode == http.StatusOK && speaksGRPC(res.Response):
		return Outcome{Unsendable, UnknownProtocol}
	}
	return Outcome{}
}

// judge classifies the response to a unary call by its head, and takes note of whether the call was
// understood. A codec that no library uses is a matter between caller and service, unless all that the service says to it is an error of
// gRPC. A call that was not understood tells nothing of other calls if it is not an ordinary one.
func (e *Endpoint) judge(ctx context.Context, req *Request, res *Response, major int) Outcome {
	mediaType, _ := req.Written()
	lack, asked := e.pool.lacks[mediaType], AnyProtocol
	if lack != nil {
		asked = protocolOf(mediaType)
	}
	outcome := res.look(asked)
	if outcome.Kind == Answered && res.failsAsGRPC() && e.knowsOnlyGRPC(ctx, req, res, major) {
		outcome = Outcome{Unsendable, UnknownProtocol}
	}
	switch {
	case lack == nil:
	case outcome.Kind == Answered:
		e.understood(lack, res.StatusCode)
	case outcome.Cause == UnknownProtocol && req.Ordinary():
		e.lacksOne(lack)
	}
	return outcome
}

// knowsOnlyGRPC tells whether the error of gRPC that is the response to a call shows that the call was not understood.
func (e *Endpoint) knowsOnlyGRPC(ctx context.Context, req *Request, res *Response, major int) bool {
	mediaType, _ := req.Written()
	ok := res.StatusCode == http.StatusOK
	switch protocolOf(mediaType) {
	case OnlyConnect: // no message of it is one of gRPC, so nothing ran
		return ok
	case OnlyGRPCWeb:
		return e.failsAlike(ctx, req, res, major)
	case AnyProtocol: // another status says enough, and gRPC is spoken over HTTP/2
		return ok && major == 2 && e.takesNothingElse(ctx, req, res, major)
	}
	return false
}

// takesNothingElse is failsAlike for a call of no protocol that we know. What the endpoint has shown counts for ten
// minutes, as long as there are connections to it: after the last one another program may listen there.
func (e *Endpoint) takesNothingElse(ctx context.Context, req *Request, res *Response, major int) bool {
	if e.others.recently() {
		return true
	}
	alike := e.failsAlike(ctx, req, res, major)
	e.others.note(alike)
	return alike
}

// Picky tells whether there may be media types that it Lacks.
func (p *Pool) Picky() bool { return p.picky.Load() }

// Refuses is Lacks for the media type of a call.
func (p *Pool) Refuses(req *Request) (cause string, refused bool) {
	if !p.picky.Load() {
		return "", false
	}
	mediaType, _ := req.Written()
	return p.Lacks(mediaType)
}

// Lacks tells whether the service does not understand calls of a media type, and the cause: its route says so, or an endpoint has lately shown
// it, and none has understood one since.
func (p *Pool) Lacks(mediaType string) (cause string, lacks bool) {
	if !p.picky.Load() {
		return "", false
	}
	spoken := protocolOf(mediaType)
	switch lack, said := p.lacks[mediaType], p.says.Load(); {
	case said.Protocol != AnyProtocol && said.Protocol != spoken:
		return UnknownProtocol, true
	case lack != nil && lack.recently():
		return UnknownProtocol, true
	case spoken == OnlyGRPC && (said.HTTP == OnlyHTTP1 || p.lacksHTTP2.recently()):
		return NeedsHTTP2, true
	}
	return "", false
}
