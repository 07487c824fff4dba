package contract

import (
	"bytes"
	"iter"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
)

// WhyStored says why a call is to be stored: its service has not served the call for this cause, or, if cause
// is empty, the call asked to be stored.
func WhyStored(service, cause string) string {
	if cause == "" {
		return "the call asked to be stored"
	}
	return service + " has not served the call (" + cause + ")"
}

// Stored is the error that carries a handle: the call was accepted, and was not finished when its
// caller stopped waiting. It sets the handle's PollAfter to a message that all handles share.
func Stored(handle *momv1.TaskHandle) *connect.Error { return NewHandle(handle).Connect() }

// HandleError is the error of Stored before it is one of connect's: nearly all calls that are stored need one, and connect copies
// an error with each detail. AppendError and StatusTrailers write it.
type HandleError struct {
	message string
	details []*connect.ErrorDetail

	handle connect.ErrorDetail
	both   [2]*connect.ErrorDetail // room for details
	room   [400]byte               // for most handles, in both codecs
}

// NewHandle is Stored, but for the type.
func NewHandle(handle *momv1.TaskHandle) *HandleError {
	handle.PollAfter = pollAfter
	e := &HandleError{message: "accepted, not finished yet; the task is " + handle.GetId()}
	e.details = append(e.both[:0], details[momv1.Reason_REASON_CALL_STORED]...)
	value, flaw := proto.MarshalOptions{}.MarshalAppend(e.room[:0], handle)
	if flaw != nil {
		return e // it is a message of ours: there is no flaw
	}
	end := len(value)
	e.handle.Type, e.handle.Value, e.handle.Debug = handleName, value[:end:end], appendHandle(value[end:], handle)
	e.details = append(e.details, &e.handle)
	return e
}

// Error implements error.
func (e *HandleError) Error() string { return e.message }

// As has errors.As find one of connect's.
func (e *HandleError) As(target any) bool {
	err, ok := target.(**connect.Error)
	if ok {
		*err = e.Connect()
	}
	return ok
}

// Connect makes it one of connect's.
func (e *HandleError) Connect() *connect.Error {
	err := connect.NewError(reasons[momv1.Reason_REASON_CALL_STORED].code, e.message)
	for _, detail := range e.details {
		err = err.WithDetail(detail)
	}
	return err
}

var handleName = string((*momv1.TaskHandle)(nil).ProtoReflect().Descriptor().FullName())

// pollAfter is the PollAfter of all handles.
var pollAfter = durationpb.New(retryDelay)

// appendHandle appends a handle as protojson writes it, but for blanks. Nearly every stored call needs it, and protojson takes three times as long.
func appendHandle(out []byte, handle *momv1.TaskHandle) []byte {
	at, name := handle.GetExpireTime(), momv1.TaskState_name[int32(handle.GetState())]
	if handle.GetId() == "" || handle.GetState() == 0 || name == "" || at != nil && at.CheckValid() != nil {
		out, _ = protojson.MarshalOptions{}.MarshalAppend(out, handle) // messages of linked types always marshal
		return out
	}
	out = appendText(append(out, `{"id":`...), handle.GetId())
	out = append(append(append(out, `,"state":"`...), name...), '"')
	if at != nil {
		out = at.AsTime().AppendFormat(append(out, `,"expireTime":"`...), time.RFC3339)
		out = strconv.AppendInt(out[:len(out)-len("Z")], 1e9+int64(at.GetNanos()), 10) // nine digits after a 1
		out[len(out)-len("1000000000")] = '.'
		for range 3 { // it has no digits, or 3, 6 or 9 of them
			out = bytes.TrimSuffix(out, []byte("000"))
		}
		out = append(bytes.TrimSuffix(out, []byte(".")), `Z"`...)
	}
	return append(out, `,"pollAfter":"1s"}`...)
}

// StoredHeader returns the headers that go with a handle. A gRPC client is told not to retry by
// itself, since the call is stored.
func StoredHeader(id string, grpc bool) iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		_ = yield(HeaderTask, id) &&
			yield("Location", "/v1/tasks/"+id) &&
			yield("Retry-After", retryAfter) &&
			yield("Cache-Control", "no-store") &&
			grpc && yield("Grpc-Retry-Pushback-Ms", "-1")
	}
}

// Inform writes an informational response with the headers that are set so far.
// The caller may change the headers as soon as it returns. net/http may still be writing them when
// its HTTP/2 stream has ended, but it writes a copy if there is a Content-Length, so Inform adds one.
func Inform(w http.ResponseWriter, status int) {
	header := w.Header()
	if _, ok := header["Content-Length"]; !ok {
		header["Content-Length"] = nil
		defer delete(header, "Content-Length")
	}
	w.WriteHeader(status)
}
