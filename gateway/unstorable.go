package gateway

import (
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect/v2"

	"holdline/internal/coding"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

// notStorable is the cause of calls that are not offered to a MOM.
const notStorable = "not-storable"

// storedTypes are the media types of messages that a MOM reads.
var storedTypes = map[string]bool{
	"application/json": true, "application/proto": true,
	"application/grpc": true, "application/grpc+json": true, "application/grpc+proto": true,
	"application/grpc-web": true, "application/grpc-web+json": true, "application/grpc-web+proto": true,
	"application/grpc-web-text": true, "application/grpc-web-text+proto": true,
}

// unreadable returns the reason why no MOM can read the message of a call, in words. It is empty if the head of the request shows
// no such reason.
func unreadable(req *upstream.Request, method *route.Method) (why string) {
	mediaType, compression := req.Written()
	switch req.Method {
	case http.MethodPost:
		if raw := req.Header.Get("Content-Type"); raw != mediaType && !upstream.Readable(raw) {
			return fmt.Sprintf("Holdline does not read messages of the type %q", raw)
		}
	case http.MethodGet:
		query := req.URL.Query()
		switch version := query.Get("connect"); {
		case method.Spec().IdempotencyLevel != connect.IdempotencyNoSideEffects:
			return "the method is called by POST, since its schema does not declare it NO_SIDE_EFFECTS"
		case !query.Has("encoding"), !query.Has("message"):
			return "a GET of a method has the parameters encoding and message"
		case version != "" && version != "v1":
			return fmt.Sprintf("Connect has no version %q", version)
		}
	default:
		return "methods are called by POST, and not by " + req.Method
	}
	switch {
	case !storedTypes[mediaType]:
		return fmt.Sprintf("Holdline does not read messages of the type %q", mediaType)
	case !coding.Known(compression) || compression != strings.ToLower(compression): // a MOM knows one spelling
		return fmt.Sprintf("Holdline does not read the compression %q", compression)
	}
	return ""
}

// advice is what the caller of a call that is surely not stored may do next. If the call ran in a try, it may run
// twice, or its key finds the task.
func (h *handOff) advice() string {
	if h.call.ran || h.call.key != "" {
		return "it may be sent again"
	}
	return "it was not executed"
}
