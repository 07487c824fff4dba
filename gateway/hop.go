package gateway

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http2/hpack"

	"holdline/internal/contract"
)

// cleanRequest removes the headers that belong to this hop, and the headers that only the
// gateway itself may send to the MOM.
func cleanRequest(header http.Header) {
	trailers := strings.Contains(header.Get("Te"), "trailers")
	cleanHop(header)
	if trailers {
		header["Te"] = []string{"trailers"} // gRPC insists on it, end to end
	}
	suppressDefaults(header, "User-Agent")
	for key := range header {
		if contract.IsOwn(key) && !contract.SentBy(contract.FromCaller, key) {
			delete(header, key)
		}
	}
}

// cleanHop removes hop-by-hop headers (RFC 9110, section 7.6.1).
func cleanHop(header http.Header) {
	for _, field := range header["Connection"] {
		for name := range strings.SplitSeq(field, ",") {
			delete(header, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
	for _, key := range ofHop {
		delete(header, key)
	}
}

// ofHop are the hop-by-hop headers, and ofHopLower the same in lower case.
var (
	ofHop = [...]string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate",
		"Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	}
	ofHopLower = map[string]bool{}
)

func init() {
	for _, key := range ofHop {
		ofHopLower[strings.ToLower(key)] = true
	}
}

// isHop tells whether a field is one of the hop-by-hop ones. Its name is in lower case.
func isHop(name string) bool { return ofHopLower[name] }

// withoutHop removes the hop-by-hop headers from fields.
func withoutHop(fields []hpack.HeaderField) []hpack.HeaderField {
	return slices.DeleteFunc(fields, func(f hpack.HeaderField) bool { return isHop(f.Name) })
}
