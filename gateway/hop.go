package gateway

import (
	"net/http"
	"net/textproto"
	"strings"

	"holdline/internal/contract"
)

// cleanRequest removes what belongs to this hop, and the headers by which the
// gateway itself speaks to the MOM.
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
	for _, key := range [...]string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate",
		"Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	} {
		delete(header, key)
	}
}
