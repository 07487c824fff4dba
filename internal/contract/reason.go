package contract

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
)

// Domain is the domain of every google.rpc.ErrorInfo that Holdline writes.
const Domain = "holdline"

// retryDelay is what callers are told to wait before they send a call again.
const retryDelay = time.Second

// retryAfter is the same as a header.
var retryAfter = strconv.Itoa(int(retryDelay.Seconds()))

// terms is what a reason means on the wire.
type terms struct {
	code   connect.Code
	status int  // HTTP status of the Connect unary protocol; 0: the code's own
	retry  bool // safe and useful to send again: with RetryInfo
}

// reasons is the one table from reasons to codes and statuses.
var reasons = map[momv1.Reason]terms{
	momv1.Reason_REASON_CALL_STORED:            {connect.CodeDeadlineExceeded, http.StatusAccepted, false},
	momv1.Reason_REASON_SERVICE_UNAVAILABLE:    {connect.CodeUnavailable, 0, true},
	momv1.Reason_REASON_STORE_UNAVAILABLE:      {connect.CodeUnavailable, 0, true},
	momv1.Reason_REASON_STORE_UNCERTAIN:        {connect.CodeUnavailable, 0, true},
	momv1.Reason_REASON_OUTCOME_UNKNOWN:        {connect.CodeUnknown, 0, false},
	momv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED: {connect.CodeInvalidArgument, http.StatusUnprocessableEntity, false},
	momv1.Reason_REASON_HEADER_INVALID:         {connect.CodeInvalidArgument, 0, false},
	momv1.Reason_REASON_REQUEST_TOO_LARGE:      {connect.CodeInvalidArgument, http.StatusRequestEntityTooLarge, false},
	momv1.Reason_REASON_ANSWER_TOO_LARGE:       {connect.CodeResourceExhausted, 0, false},
	momv1.Reason_REASON_QUEUE_FULL:             {connect.CodeResourceExhausted, 0, true},
	momv1.Reason_REASON_NO_ROUTE:               {connect.CodeUnimplemented, http.StatusNotFound, false},
	momv1.Reason_REASON_TASK_EXPIRED:           {connect.CodeDeadlineExceeded, http.StatusGone, false},
	momv1.Reason_REASON_ANSWER_EXPIRED:         {connect.CodeNotFound, http.StatusGone, false},
	momv1.Reason_REASON_ATTEMPTS_SPENT:         {connect.CodeAborted, 0, false},
	momv1.Reason_REASON_TASK_CANCELLED:         {connect.CodeCanceled, 0, false},
	momv1.Reason_REASON_TASK_NOT_FOUND:         {connect.CodeNotFound, 0, false},
	momv1.Reason_REASON_TASK_STATE:             {connect.CodeFailedPrecondition, 0, false},
	momv1.Reason_REASON_ANSWER_UNREADABLE:      {connect.CodeFailedPrecondition, http.StatusNotAcceptable, false},
	momv1.Reason_REASON_HEADERS_TOO_LARGE:      {connect.CodeInvalidArgument, http.StatusRequestHeaderFieldsTooLarge, false},
	momv1.Reason_REASON_PROTOCOL_UNSUPPORTED:   {connect.CodeUnimplemented, http.StatusUnsupportedMediaType, false},
	momv1.Reason_REASON_CALL_NOT_STORABLE:      {connect.CodeUnavailable, 0, true},
	momv1.Reason_REASON_OPERATORS_ONLY:         {connect.CodePermissionDenied, 0, false},
}

// details are those of each reason, and reasonOf finds the reason of an ErrorInfo
// among them: they are always the same, so they are made once, JSON and all.
var details, reasonOf = makeDetails()

func makeDetails() (map[momv1.Reason][]*connect.ErrorDetail, map[*connect.ErrorDetail]momv1.Reason) {
	details := make(map[momv1.Reason][]*connect.ErrorDetail, len(reasons))
	reasonOf := make(map[*connect.ErrorDetail]momv1.Reason, len(reasons))
	for reason, t := range reasons {
		info := makeDetail(&errdetails.ErrorInfo{Domain: Domain, Reason: Name(reason)})
		details[reason], reasonOf[info] = []*connect.ErrorDetail{info}, reason
		if t.retry {
			details[reason] = append(details[reason], makeDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(retryDelay)}))
		}
	}
	return details, reasonOf
}

// makeDetail also renders the detail's JSON. Otherwise connect would do so for each error that it
// writes. Messages of linked types always marshal.
func makeDetail(msg proto.Message) *connect.ErrorDetail {
	detail, err := connectproto.NewErrorDetail(msg)
	if err != nil {
		return nil // and WithDetail ignores it
	}
	detail.Debug, _ = protojson.Marshal(msg)
	return detail
}

// Errorf returns the error of a reason: its code, an ErrorInfo, and a RetryInfo
// where sending the call again is safe and useful.
func Errorf(reason momv1.Reason, format string, args ...any) *connect.Error {
	return newError(reason, fmt.Sprintf(format, args...))
}

func newError(reason momv1.Reason, message string) *connect.Error {
	err := connect.NewError(reasons[reason].code, message)
	for _, detail := range details[reason] {
		err = err.WithDetail(detail)
	}
	return err
}

// NotUnderstood is the error for a call whose protocol or codec its service does not understand.
// overHTTP1 says that it is a gRPC call to a service that speaks HTTP/1.1 only.
func NotUnderstood(service, mediaType, compression string, overHTTP1 bool) *connect.Error {
	if overHTTP1 {
		return Errorf(momv1.Reason_REASON_PROTOCOL_UNSUPPORTED,
			"%s speaks HTTP/1.1, and gRPC needs HTTP/2; call it with Connect or gRPC-Web. The call was not executed", service)
	}
	kind := "of the type " + mediaType
	if mediaType == "" {
		kind = "without a Content-Type"
	}
	if compression != "" {
		kind += " in " + compression
	}
	return Errorf(momv1.Reason_REASON_PROTOCOL_UNSUPPORTED,
		"%s does not understand calls %s; it may know another protocol or codec. The call was not executed", service, kind)
}

// WithDetail adds a message to an error's details.
func WithDetail(err *connect.Error, msg proto.Message) *connect.Error {
	return err.WithDetail(makeDetail(msg))
}

// Name is a reason as ErrorInfo carries it, such as "CALL_STORED".
func Name(reason momv1.Reason) string {
	return strings.TrimPrefix(reason.String(), "REASON_")
}

// ReasonOf reads the reason of an error. It is REASON_UNSPECIFIED when the error is not Holdline's.
func ReasonOf(err error) momv1.Reason {
	rpcErr, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return momv1.Reason_REASON_UNSPECIFIED
	}
	return reasonIn(rpcErr.Details())
}

func reasonIn(details []*connect.ErrorDetail) momv1.Reason {
	for _, detail := range details {
		if reason, ok := reasonOf[detail]; ok {
			return reason
		}
		msg, err := connectproto.UnmarshalErrorDetail(detail)
		if err != nil {
			continue
		}
		if info, ok := msg.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return momv1.Reason(momv1.Reason_value["REASON_"+info.GetReason()])
		}
	}
	return momv1.Reason_REASON_UNSPECIFIED
}

// errorWriter speaks all three protocols; it is safe for concurrent use.
var errorWriter = connecthttp.NewErrorWriter()

// WriteError answers a request with an error, in the protocol that the caller
// spoke and with the status of the error's reason.
func WriteError(w http.ResponseWriter, r *http.Request, err *connect.Error) {
	if after := RetryAfter(err); after != "" {
		w.Header().Set("Retry-After", after)
	}
	if codec, isText := strings.CutPrefix(r.Header.Get("Content-Type"), "application/grpc-web-text"); isText {
		r = r.Clone(r.Context()) // the error has no body that could be in base64
		r.Header.Set("Content-Type", "application/grpc-web"+codec)
	}
	status := &StatusWriter{ResponseWriter: w, Status: Status(err)}
	// The only error left is a broken connection: nobody is there to be told.
	_ = errorWriter.Write(status, r, err)
}

// Status is the HTTP status of an error's reason in the Connect unary
// protocol; 0 when it is the code's own.
func Status(err error) int { return reasons[ReasonOf(err)].status }

// RetryAfter is the Retry-After header of an error; empty when sending the call
// again is not safe or of no use.
func RetryAfter(err error) string {
	if !reasons[ReasonOf(err)].retry {
		return ""
	}
	return retryAfter
}

// StatusWriter writes Status, unless it is 0, where the handler writes an error
// status. gRPC, gRPC-Web and Connect streams carry errors in a 200, which stays.
type StatusWriter struct {
	http.ResponseWriter
	Status int
}

// WriteHeader implements http.ResponseWriter.
func (w *StatusWriter) WriteHeader(status int) {
	if status >= 400 && w.Status != 0 {
		status = w.Status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Flush implements http.Flusher, which connect asks server streams for.
func (w *StatusWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (w *StatusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
