package contract

import (
	"net/http"
	"strconv"

	"connectrpc.com/connect/v2"
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
	return WithDetail(Errorf(momv1.Reason_REASON_CALL_STORED, "accepted, not finished yet; the task is %s", handle.GetId()), handle)
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
