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

// Causes of calls that the service does not understand.
const (
	// NeedsHTTP2: a gRPC call to a service without HTTP/2. gRPC needs the trailers of HTTP/2 for its status.
	NeedsHTTP2 = "needs-http2"
	// UnknownProtocol: the service has answered a call of this media type with 415, or with an error of gRPC.
	UnknownProtocol = "unknown-protocol"
)

// Protocol is the protocol of a unary call, or the only protocol that a service speaks according to its route.
type Protocol uint8

// AnyProtocol, for a call: a protocol that we do not know. For a service: the pool finds out what its endpoints speak.
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

// Readable tells whether a reader can ignore the parameters behind the media type of a Content-Type. It is false if they have a charset other
// than UTF-8, or cannot be parsed.
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

// Written returns how the message of a unary call is encoded: its media type, and its compression.
// Each is empty if there is none.
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

// protocolOf is the protocol to which a media type belongs.
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

// remembered is how long we remember that a service does not understand a protocol. After an outage another program may
// run there. If we remembered for ever, calls would never be sent in that protocol again, and we would never find out.
const remembered = 10 * time.Minute

// newLacks returns the media types for which we remember whether a service understands them: the types
// that callers' libraries use. Any other type may be the invention of one caller.
func newLacks() map[string]*lacking {
	all := map[string]*lacking{"application/json": {}, "application/proto": {}, "application/connect+json": {}, "application/connect+proto": {}}
	for _, family := range []string{"application/grpc", "application/grpc-web", "application/grpc-web-text"} {
		all[family] = &lacking{}
		all[family+"+proto"], all[family+"+json"] = all[family], &lacking{}
	}
	return all
}

// lacking records when a service last showed that it does not understand a kind of call, in Unix nanoseconds. It is 0 if that
// never happened, or the service has understood such a call since.
type lacking struct {
	at         atomic.Int64
	told       atomic.Int64 // when the endpoint last showed that it does not mistake such a call for gRPC, likewise
	understood atomic.Bool  // the service has understood such a call at least once
}

// lacksOne records that a call was not understood. It ignores an endpoint that is gone, which shows nothing about the endpoints that came after
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

// understood records that a call of this kind was understood, and ignores endpoints in the same way.
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

// empty is the same message in the encoding of a media type.
func empty(mediaType string) string {
	if isJSON(mediaType) {
		return "\x00\x00\x00\x00\x02{}"
	}
	return emptyMessage
}

// failsAsGRPC tells whether a response is a gRPC error without any message.
func (res *Response) failsAsGRPC() bool {
	status := res.Header.Get("Grpc-Status")
	return status != "" && status != "0" && speaksGRPC(res.Response)
}

// Heard returns the media types that the service has been seen to understand, and the media types that it does
// not understand. A type is in neither list if there were no such calls and the route does not name a protocol.
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

// failsAlike sends the endpoint a health check in the protocol of a call, and tells whether it
// gets the same error as the call. Then the endpoint has understood neither of them. We have to ask, because gRPC-Web has
// the same messages as gRPC, so a server that only knows gRPC may have run the call.
func (e *Endpoint) failsAlike(ctx context.Context, req *Request, res *Response, major int) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	mediaType := MediaType(req.Header)
	if isJSON(mediaType) && string(req.Body) == emptyMessage {
		return false // this JSON body is also a valid message in the binary format
	}
	// A server may answer all questions with the same error, because of a failure behind it. So ask in gRPC, too.
	asGRPC := http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	return e.failsSo(ctx, major, http.Header{"Content-Type": req.Header["Content-Type"], "Te": req.Header["Te"]}, empty(mediaType), res) &&
		!e.failsSo(ctx, 2, asGRPC, emptyMessage, res)
}

// failsSo tells whether the endpoint answers a health check with the same error as a response.
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

// askAs sends the endpoint a health check with this header and message, and returns the answer without its body.
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

// errMistakes is the error of a call that was not sent because the endpoint mistakes its protocol.
var errMistakes = errors.New("the endpoint answers this protocol in gRPC")

// mistakes tells whether the endpoint would misread a call. Streams of all protocols have the same
// envelopes, and some servers that only speak gRPC look at nothing else: they run a stream of another protocol, and send an answer that its
// caller cannot read. Other servers take JSON in gRPC for the binary format. So before the first such call, we ask the endpoint for its
// health in the same form. If it answers a question of another protocol in gRPC, it does not speak that protocol. If it answers JSON in gRPC with something other than JSON, or only with
// an error, it may not know JSON in gRPC; every server knows the binary format.
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
		return false // the call itself will show whether it is understood
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

// judgeStream is judge for a stream. Messages of a stream may come late, so it only finds out whether the endpoint understands
// the protocol.
func (e *Endpoint) judgeStream(ctx context.Context, req *Request, res *Response, major int) Outcome {
	mediaType := MediaType(req.Header)
	lack := e.pool.lacks[mediaType]
	if lack == nil {
		return Outcome{}
	}
	switch {
	case protocolOf(mediaType) != OnlyGRPC && speaksGRPC(res.Response):
		// The program at this endpoint is not the one that we asked before. If it fails health checks in the same way, it has understood nothing.
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

// unread classifies the response to a call of a method that no schema has, if the call has a media type of Connect's unary calls. Its
// caller could not use an empty 415, and would take a gRPC error for an answer. A message of Connect is never a message of gRPC, so
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

// judge classifies the response to a unary call by its head, and records whether the call was
// understood. A codec that no library uses is a matter between caller and service, unless the service's only answer is a gRPC
// error. If a call that was not understood is not an ordinary one, it shows nothing about other calls.
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

// knowsOnlyGRPC tells whether a gRPC error, as the response to a call of another protocol, shows that the call was not understood.
func (e *Endpoint) knowsOnlyGRPC(ctx context.Context, req *Request, res *Response, major int) bool {
	mediaType, _ := req.Written()
	ok := res.StatusCode == http.StatusOK
	switch protocolOf(mediaType) {
	case OnlyConnect: // a message of Connect is never a message of gRPC, so nothing ran
		return ok
	case OnlyGRPCWeb:
		return e.failsAlike(ctx, req, res, major)
	case AnyProtocol: // any other HTTP status shows the failure to the caller; and gRPC is spoken over HTTP/2
		return ok && major == 2 && e.takesNothingElse(ctx, req, res, major)
	}
	return false
}

// takesNothingElse is failsAlike for a call of an unknown protocol. Its result counts for ten
// minutes while there are connections to the endpoint: after the last connection has ended, another program may listen there.
func (e *Endpoint) takesNothingElse(ctx context.Context, req *Request, res *Response, major int) bool {
	if e.others.recently() {
		return true
	}
	alike := e.failsAlike(ctx, req, res, major)
	e.others.note(alike)
	return alike
}

// Picky tells whether there may be media types that the service Lacks.
func (p *Pool) Picky() bool { return p.picky.Load() }

// Refuses is Lacks for the media type of a call.
func (p *Pool) Refuses(req *Request) (cause string, refused bool) {
	if !p.picky.Load() {
		return "", false
	}
	mediaType, _ := req.Written()
	return p.Lacks(mediaType)
}

// Lacks tells whether the service does not understand calls of a media type, and the cause. This is so if its route names another protocol, or if an endpoint
// has not understood such a call within the last ten minutes and no endpoint has understood one since.
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
