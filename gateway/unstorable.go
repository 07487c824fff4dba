package gateway

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/coding"
	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// notStorable is the cause of calls that are not offered to a MOM.
const notStorable = "not-storable"

// offerable prepares the headers of the offers; otherwise it answers a caller whose call no MOM
// can keep, and says so.
func (h *handOff) offerable(w http.ResponseWriter, explain func(step)) bool {
	if why := unreadable(&h.req); why != "" {
		explain(fail)
		h.refuse(w, h.call, contract.Errorf(momv1.Reason_REASON_CALL_NOT_STORABLE,
			"%s, and it cannot be stored: %s; %s", h.why(), why, h.then()), notStorable, "task", h.id)
		return false
	}
	if h.req.In.Method != http.MethodGet { // without parameters that say nothing to a MOM
		h.header.Set("Content-Type", upstream.MediaType(h.header))
	}
	// The protocol has one version. Services may not look at it, and a MOM would.
	h.header.Del("Connect-Protocol-Version")
	return true
}

// storedTypes are the media types of messages that a MOM reads.
var storedTypes = map[string]bool{
	"application/json": true, "application/proto": true,
	"application/grpc": true, "application/grpc+json": true, "application/grpc+proto": true,
	"application/grpc-web": true, "application/grpc-web+json": true, "application/grpc-web+proto": true,
	"application/grpc-web-text": true, "application/grpc-web-text+proto": true,
}

// unreadable says why no MOM reads the message of a call: in words, or empty if its head does not
// tell.
func unreadable(req *upstream.Request) (why string) {
	mediaType, compression := req.Written()
	if req.In.Method == http.MethodGet {
		if !req.In.URL.Query().Has("encoding") {
			return "a GET of a method has ?encoding=json&message=…"
		}
	} else {
		raw := req.Header.Get("Content-Type")
		_, params, err := mime.ParseMediaType(raw)
		if charset, ok := params["charset"]; err != nil || ok && !strings.EqualFold(charset, "utf-8") {
			return fmt.Sprintf("Holdline does not read messages of the type %q", raw)
		}
	}
	switch {
	case !storedTypes[mediaType]:
		return fmt.Sprintf("Holdline does not read messages of the type %q", mediaType)
	case !coding.Known(compression) || compression != strings.ToLower(compression): // a MOM knows one spelling
		return fmt.Sprintf("Holdline does not read the compression %q", compression)
	}
	return ""
}

// why is why the call was to be stored.
func (h *handOff) why() string {
	cause := ""
	if h.cause != nil {
		cause = h.cause.Cause
	}
	return contract.WhyStored(h.target.route.Service, cause)
}

// then is what a caller may do whose call is surely not stored. What ran may run twice, or it
// is the task of the key.
func (h *handOff) then() string {
	if h.ran || h.key != "" {
		return "it may be sent again"
	}
	return "it was not executed"
}

// tooManyHeaders tells whether a MOM did not take an offer for its headers.
func tooManyHeaders(last upstream.Outcome) bool {
	return last.Cause == upstream.HeadersTooLarge || last.Cause == "http-431"
}
