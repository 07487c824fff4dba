package contract

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	"holdline/internal/coding"
)

// storedTypes are the media types of messages that a MOM reads.
var storedTypes = map[string]bool{
	"application/json": true, "application/proto": true,
	"application/grpc": true, "application/grpc+json": true, "application/grpc+proto": true,
	"application/grpc-web": true, "application/grpc-web+json": true, "application/grpc-web+proto": true,
	"application/grpc-web-text": true, "application/grpc-web-text+proto": true,
}

// NotStorable says why no MOM can keep a call: in words, or empty if its head does not tell. A
// call that can be stored is offered with the given media type.
func NotStorable(r *http.Request) (mediaType, why string) {
	if r.Method == http.MethodGet { // of Connect
		query := r.URL.Query()
		if !query.Has("encoding") {
			return "", "a GET of a method has ?encoding=json&message=…"
		}
		return "", unread("application/"+query.Get("encoding"), query.Get("compression"))
	}
	raw := r.Header.Get("Content-Type")
	mediaType, params, err := mime.ParseMediaType(raw)
	if charset, ok := params["charset"]; err != nil || ok && !strings.EqualFold(charset, "utf-8") {
		return "", fmt.Sprintf("Holdline does not read messages of the type %q", raw)
	}
	encoding := r.Header.Get("Content-Encoding") // Connect has it there
	if strings.HasPrefix(mediaType, "application/grpc") {
		encoding = r.Header.Get("Grpc-Encoding")
	}
	return mediaType, unread(mediaType, encoding)
}

func unread(mediaType, encoding string) string {
	switch {
	case !storedTypes[mediaType]:
		return fmt.Sprintf("Holdline does not read messages of the type %q", mediaType)
	case !coding.Known(encoding) || encoding != strings.ToLower(encoding): // a MOM knows one spelling
		return fmt.Sprintf("Holdline does not read the compression %q", encoding)
	}
	return ""
}
