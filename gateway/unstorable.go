package gateway

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	"holdline/internal/coding"
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

// unreadable says why no MOM reads the message of a call: in words, or empty if its head does not
// tell.
func unreadable(req *upstream.Request) (why string) {
	mediaType, compression := req.Written()
	if req.Method == http.MethodGet {
		if !req.URL.Query().Has("encoding") {
			return "a GET of a method has ?encoding=json&message=…"
		}
	} else if raw := req.Header.Get("Content-Type"); raw != mediaType { // it has parameters, or flaws
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

// advice is what a caller may do whose call is surely not stored. What ran may run twice, or it
// is the task of the key.
func (h *handOff) advice() string {
	if h.call.ran || h.call.key != "" {
		return "it may be sent again"
	}
	return "it was not executed"
}
