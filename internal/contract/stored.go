package contract

import (
	"bytes"
	"net/http"
	"strconv"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
)

// WhyStored says why a call is to be stored: its service cannot take the call for this cause, or, if cause
// is empty, the call asked to be stored.
func WhyStored(service, cause string) string {
	if cause == "" {
		return "the call asked to be stored"
	}
	return service + " cannot take the call (" + cause + ")"
}

// Stored is the error that carries a handle: the call was accepted, and was not finished when its
// caller stopped waiting. It sets the handle's PollAfter.
func Stored(handle *momv1.TaskHandle) *connect.Error {
	handle.PollAfter = durationpb.New(retryDelay)
	err := Errorf(momv1.Reason_REASON_CALL_STORED, "accepted, not finished yet; the task is %s", handle.GetId())
	detail, flaw := connectproto.NewErrorDetail(handle)
	if flaw != nil {
		return err // it is a message of ours: there is no flaw
	}
	detail.Debug = handleJSON(handle)
	return err.WithDetail(detail)
}

// handleJSON writes a handle as protojson does, but for blanks. Nearly every stored call needs it, and protojson takes three times as long.
func handleJSON(handle *momv1.TaskHandle) []byte {
	at, name := handle.GetExpireTime(), momv1.TaskState_name[int32(handle.GetState())]
	if handle.GetId() == "" || handle.GetState() == 0 || name == "" || at != nil && at.CheckValid() != nil {
		written, _ := protojson.Marshal(handle) // messages of linked types always marshal
		return written
	}
	out := appendText(append(make([]byte, 0, 256), `{"id":`...), handle.GetId())
	out = append(append(append(out, `,"state":"`...), name...), '"')
	if at != nil {
		out = at.AsTime().AppendFormat(append(out, `,"expireTime":"`...), "2006-01-02T15:04:05.000000000")
		for range 3 { // it has no digits, or 3, 6 or 9 of them
			out = bytes.TrimSuffix(out, []byte("000"))
		}
		out = append(bytes.TrimSuffix(out, []byte(".")), `Z"`...)
	}
	return append(out, `,"pollAfter":"1s"}`...)
}

// StoredHeader returns the headers that go with a handle. A gRPC client is told not to retry by
// itself, since the call is stored.
func StoredHeader(id string, grpc bool) map[string]string {
	header := map[string]string{
		HeaderTask:      id,
		"Location":      "/v1/tasks/" + id,
		"Retry-After":   strconv.Itoa(int(retryDelay.Seconds())),
		"Cache-Control": "no-store",
	}
	if grpc {
		header["Grpc-Retry-Pushback-Ms"] = "-1"
	}
	return header
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
