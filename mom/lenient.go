package mom

import (
	"io"
	"net/http"
	"strings"
)

const grpcMessage = "Grpc-Message"

// lenientBody is the body of a gRPC response whose message is taken as it is where it is
// not percent-encoded as it should be. The gRPC specification asks for that; connect
// would drop the status with the message, and the answer be lost.
type lenientBody struct {
	io.ReadCloser
	res *http.Response
}

// takeLeniently changes a response so.
func takeLeniently(res *http.Response) {
	encodePercents(res.Header)
	res.Body = &lenientBody{res.Body, res}
}

// Read implements io.Reader.
func (b *lenientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		encodePercents(b.res.Trailer) // they are there at the end of the body
	}
	return n, err
}

// encodePercents encodes each percent sign that begins no encoded byte.
func encodePercents(header http.Header) {
	message := header.Get(grpcMessage)
	if !strings.Contains(message, "%") {
		return
	}
	var encoded strings.Builder
	for i := range len(message) {
		encoded.WriteByte(message[i])
		if message[i] == '%' && (i+2 >= len(message) || !isHex(message[i+1]) || !isHex(message[i+2])) {
			encoded.WriteString("25")
		}
	}
	header.Set(grpcMessage, encoded.String())
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
