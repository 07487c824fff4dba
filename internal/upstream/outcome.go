package upstream

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"connectrpc.com/connect/v2"
	"golang.org/x/net/http2"

	"holdline/internal/coding"
)

// Kind is the kind of an attempt's outcome. It decides what may be done next.
type Kind uint8

// The kinds. The gateway and the MOM decide what follows each of them.
const (
	// Answered: the service, or a server in front of it, has given a final response.
	Answered Kind = iota
	// NotSent: the service cannot have a whole message. DNS, dial, TLS, no endpoint.
	NotSent
	// Refused: as NotSent, but the service is alive: it refused the stream, or closed the
	// connection while nothing was written.
	Refused
	// Broken: the request was taken, but no response headers came.
	Broken
	// Bare: 502, 503 or 504 that is no RPC error; a proxy on the way, perhaps.
	Bare
	// Unavailable: the service itself says unavailable, before any message.
	Unavailable
	// Exhausted: the service says resource_exhausted.
	Exhausted
	// DeadlineOver: the caller's deadline ended the attempt.
	DeadlineOver
	// CallerLeft: the caller ended the attempt.
	CallerLeft
	// Unsendable: nothing ran, because of the call itself. Its headers are larger
	// than the service accepts, or HTTP does not allow them, or the service does not
	// understand its protocol. Other calls can pass.
	Unsendable
)

// String is the kind as metrics name it.
func (k Kind) String() string {
	return [...]string{
		Answered: "answered", NotSent: "not_sent", Refused: "refused", Broken: "broken", Bare: "bare",
		Unavailable: "unavailable", Exhausted: "exhausted", DeadlineOver: "deadline_over", CallerLeft: "caller_left",
		Unsendable: "unsendable",
	}[k]
}

// Outcome is a kind with its cause in a few words, such as "dial-refused", for
// people and for the Holdline-Cause header.
type Outcome struct {
	Kind  Kind
	Cause string
}

// Foreign tells whether the endpoint does not speak the call's protocol or codec, so that nothing ran.
func (o Outcome) Foreign() bool {
	return o.Kind == Unsendable && (o.Cause == NeedsHTTP2 || o.Cause == UnknownProtocol)
}

// Causes on which decisions depend: nobody listens at the endpoint; the endpoint gives no sign
// of life.
const (
	DialRefused = "dial-refused"
	Silent      = "silent"
	// NoDescriptors is a problem of this process: it has no file descriptor left.
	NoDescriptors = "no-descriptors"
)

// ErrDeadline is the cancellation cause of an attempt's context when the
// caller's deadline is over. ErrTryTimeout is the cause when a route's try-timeout is over, and ErrEnding when the gateway ends.
var (
	ErrDeadline   = errors.New("the caller's deadline is over")
	ErrTryTimeout = errors.New("try-timeout of the route")
	ErrEnding     = errors.New("the gateway ends")
)

// TryTimeout is the cause of an attempt that ErrTryTimeout ended, and GatewayEnds of one that ErrEnding did.
const (
	TryTimeout  = "try-timeout"
	GatewayEnds = "gateway-ends"
)

// errResend is what GetBody returns: net/http must never send a body again on
// its own, so it gives up with this error exactly when it knows that the
// service refused the stream or that nothing was written.
var errResend = errors.New("not sent: stream or connection refused")

// ofError classifies an attempt without a response. taken is true if the
// transport took the last byte of the body. Before that, a unary service
// cannot have the whole message, whatever else has happened. Neither can it when
// a write over HTTP/1.1 failed, since there all writes on a connection belong to one request.
func ofError(ctx context.Context, err error, taken bool, httpMajor int) Outcome {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, ErrDeadline):
		return Outcome{DeadlineOver, "deadline"}
	case errors.Is(cause, ErrTryTimeout):
		return endedByUs(taken, TryTimeout)
	case errors.Is(cause, ErrEnding):
		return endedByUs(taken, GatewayEnds)
	case cause != nil:
		return Outcome{CallerLeft, "caller-left"}
	}
	stream, reset := errors.AsType[http2.StreamError](err)
	switch {
	case errors.Is(err, errResend), reset && stream.Code == http2.ErrCodeRefusedStream:
		return Outcome{Refused, "refused-stream"}
	case !taken, httpMajor == 1 && writeFailed(err):
		return Outcome{NotSent, causeOf(err)}
	}
	return Outcome{Broken, causeOf(err)}
}

// endedByUs is the outcome of an attempt that this process ended for a reason of its own.
func endedByUs(taken bool, cause string) Outcome {
	if taken {
		return Outcome{Broken, cause}
	}
	return Outcome{NotSent, cause}
}

// BrokeOff classifies an answer that ended before it was complete.
func BrokeOff(ctx context.Context, err error) Outcome {
	if outcome := ofError(ctx, err, true, 2); outcome.Kind != Refused && outcome.Kind != NotSent && ctx.Err() != nil {
		return outcome
	}
	return Outcome{Broken, "broken-answer"}
}

// Ours tells whether the gateway itself caused the outcome, so that it shows nothing about the service.
func (o Outcome) Ours() bool { return o.Cause == NoDescriptors || o.Cause == GatewayEnds }

// writeFailed looks for a failed write(2) in the layers of a transport's error.
func writeFailed(err error) bool {
	for op, ok := errors.AsType[*net.OpError](err); ok; op, ok = errors.AsType[*net.OpError](op.Err) {
		if op.Op == "write" {
			return true
		}
	}
	return false
}

// handshakeAlerts are the alerts with which TLS servers refuse a client (RFC 8446, section
// 6.2): handshake_failure, those about its certificate, unknown_ca, access_denied,
// decrypt_error (of its signature), certificate_required.
var handshakeAlerts = [...]tls.AlertError{40, 42, 43, 44, 45, 46, 48, 49, 51, 116}

// refusesHandshake looks for such an alert of the other side. With TLS 1.3 a server
// reads the client's certificate when the client has ended its handshake and sent
// its request. So if such an alert is the first thing that comes on a connection, nothing ran.
func refusesHandshake(err error) bool {
	for op, ok := errors.AsType[*net.OpError](err); ok; op, ok = errors.AsType[*net.OpError](op.Err) {
		if op.Op == "remote error" {
			for _, alert := range handshakeAlerts {
				if op.Err.Error() == alert.Error() {
					return true
				}
			}
		}
	}
	return false
}

// causeOf puts a transport error into a word.
func causeOf(err error) string {
	// errors.As would reflect, which takes room on the stacks of thousands who are then held.
	_, dns := errors.AsType[*net.DNSError](err)
	op, ofConn := errors.AsType[*net.OpError](err)
	_, reset := errors.AsType[http2.StreamError](err)
	switch {
	case errors.Is(err, errSilent):
		return Silent
	case errors.Is(err, errUnacknowledged):
		return "unacknowledged"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return NoDescriptors
	case dns:
		return "dns"
	case errors.Is(err, syscall.ECONNREFUSED):
		return DialRefused
	case ofConn && op.Op == "dial":
		if op.Timeout() {
			return "dial-timeout"
		}
		return "dial"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case reset:
		return "reset-stream"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case strings.Contains(err.Error(), "tls: "), strings.Contains(err.Error(), "x509: "), strings.Contains(err.Error(), "TLS handshake"):
		return "tls"
	}
	return "connection"
}

// maxErrorBody is how much of an HTTP error's body is read to learn whether it
// is a Connect error.
const maxErrorBody = 64 << 10

// look classifies a response by its head: the status and headers, the trailers
// when there is no message before them, and the body of a Connect error. What
// it reads of the body it keeps in res.head.
func (res *Response) look(asked Protocol) Outcome {
	contentType := MediaType(res.Header)
	switch status := res.StatusCode; {
	case status == http.StatusUnsupportedMediaType:
		if asked == AnyProtocol || asked == OnlyGRPC && res.Header.Get("Grpc-Status") != "" ||
			contentType == "application/json" && validCode(res.connectCode()) {
			return Outcome{}
		}
		return Outcome{Unsendable, UnknownProtocol}
	case status == http.StatusOK:
		if strings.HasPrefix(contentType, "application/grpc") {
			res.GRPCStatus = res.grpcStatus(contentType)
			return ofStatus(res.GRPCStatus)
		}
		return Outcome{}
	case saysTryAgain(status):
		if status := res.Header.Get("Grpc-Status"); status != "" {
			return ofStatus(status)
		}
		if contentType == "application/json" {
			if !coding.Known(res.Header.Get("Content-Encoding")) {
				return Outcome{} // the caller has asked for this compression, and can read the error
			}
			switch code := res.connectCode(); {
			case code == connect.CodeUnavailable.String():
				return Outcome{Unavailable, "unavailable"}
			case code == connect.CodeResourceExhausted.String():
				return Outcome{Exhausted, "resource-exhausted"}
			case validCode(code):
				return Outcome{}
			}
		}
		if res.StatusCode == http.StatusTooManyRequests {
			return Outcome{}
		}
		return Outcome{Bare, "http-" + res.Status[:3]}
	}
	return Outcome{}
}

// saysTryAgain tells whether an HTTP status may belong to an error after which a call may be sent again, or may come from a proxy on the way.
func saysTryAgain(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// ofStatus classifies a grpc-status that came before any message.
func ofStatus(status string) Outcome {
	switch status {
	case "14":
		return Outcome{Unavailable, "unavailable"}
	case "8":
		return Outcome{Exhausted, "resource-exhausted"}
	}
	return Outcome{}
}

// gRPC-Web has its trailers in a last frame, whose first bit is set, and its last
// one when it is compressed.
const trailerFrame, compressedFrame, frameHeader = 0x80, 0x01, 5

// grpcStatus returns the grpc-status if there is one before any message.
func (res *Response) grpcStatus(contentType string) string {
	if status := res.Header.Get("Grpc-Status"); status != "" {
		return status // trailers-only
	}
	res.read()
	if len(res.head) == 0 {
		return res.Trailer.Get("Grpc-Status")
	}
	if !strings.HasPrefix(contentType, "application/grpc-web") {
		return ""
	}
	for {
		frame := res.head
		if strings.HasPrefix(contentType, "application/grpc-web-text") {
			frame, _ = base64.StdEncoding.AppendDecode(nil, frame[:len(frame)&^3]) // as far as it goes
		}
		switch {
		case len(frame) > 0 && frame[0]&trailerFrame == 0:
			return ""
		case len(frame) >= frameHeader && len(frame)-frameHeader >= int(binary.BigEndian.Uint32(frame[1:])):
			trailers := frame[frameHeader:]
			if frame[0]&compressedFrame != 0 {
				trailers, _ = coding.Decode(res.Header.Get("Grpc-Encoding"), trailers, maxErrorBody)
			}
			return statusIn(trailers)
		case res.err != nil || len(res.head) >= maxErrorBody:
			return ""
		}
		res.read() // it may come in pieces
	}
}

// statusIn finds the grpc-status among the trailers of a frame.
func statusIn(trailers []byte) string {
	for line := range strings.SplitSeq(string(trailers), "\r\n") {
		if key, value, _ := strings.Cut(line, ":"); strings.EqualFold(key, "grpc-status") {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// connectCode reads the whole body, if it is small, and returns the code of the
// Connect error in it.
func (res *Response) connectCode() string {
	for res.err == nil && len(res.head) < maxErrorBody {
		res.read()
	}
	raw, _ := coding.Decode(res.Header.Get("Content-Encoding"), res.head, maxErrorBody)
	var body struct {
		Code string `json:"code"`
	}
	if json.Unmarshal(raw, &body) != nil {
		return ""
	}
	return body.Code
}

func validCode(code string) bool {
	for c := connect.CodeCanceled; c <= connect.CodeUnauthenticated; c++ {
		if c.String() == code {
			return true
		}
	}
	return false
}
