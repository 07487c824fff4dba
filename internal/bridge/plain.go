package bridge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"connectrpc.com/connect/v2"

	"holdline/internal/coding"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

// The media types of plain calls and of their answers.
const (
	plainJSON, plainProto = "application/json", "application/proto"
	inGRPC, inGRPCProto   = "application/grpc", "application/grpc+proto"
)

// envelopeHead is the size of what comes before a message of gRPC, in bytes: a flag, and the length.
const envelopeHead = 5

// compressions are those that we read, as headers list them.
var compressions = []string{strings.Join(coding.Names(), ",")}

// isPlain tells whether a unary call is of Connect, not compressed, and goes to an endpoint in gRPC: as most calls are that
// cross. The two protocols then differ in some headers and in the envelope of the message. A server and a client of connect take
// three times as long for this as the translation.
func isPlain(req *upstream.Request, to Speech) bool {
	types, packed := req.Header["Content-Type"], req.Header["Content-Encoding"]
	return to == Speech{Protocol: connect.ProtocolNameGRPC} && req.Method == http.MethodPost && len(packed) == 0 &&
		len(req.Body) <= MaxMessage && len(types) == 1 && (types[0] == plainJSON || types[0] == plainProto)
}

// plain is Try for such a call. If what comes is anything but one message, not compressed, and the status OK, it returns false:
// connect goes on with what came.
func (x *exchange) plain(ctx context.Context, method *route.Method, types *route.Schemas) (*upstream.Response, bool) {
	contentType := x.req.Header["Content-Type"]
	asked := Message{JSON: contentType[0] == plainJSON, Bytes: x.req.Body, Desc: method.Descriptor.Input()}
	raw, err := x.translated(&asked, types, connect.ProtocolNameConnect)
	if err != nil {
		return nil, true
	}
	x.sent = raw
	header := make(http.Header, len(x.req.Header)+4)
	for key, values := range x.req.Header {
		if !OfTransport(key) {
			header[key] = values
		}
	}
	header["Content-Type"] = []string{inGRPC}
	header["Te"] = []string{"trailers"}
	header["Grpc-Accept-Encoding"] = compressions
	x.came, err = x.try(ctx, &upstream.Request{
		Method: http.MethodPost, URL: &url.URL{Path: method.Procedure}, HTTPMajor: x.req.HTTPMajor, Header: header,
		Body: Enveloped(raw), Length: int64(envelopeHead + len(raw)), Look: true,
	})
	if err != nil {
		return nil, true
	}
	res := x.came
	came := Message{Desc: method.Descriptor.Output()}
	var ok bool
	if came.Bytes, ok = plainAnswer(res); !ok || 2*len(came.Bytes) >= minCompress && len(x.req.Header["Accept-Encoding"]) > 0 { // JSON takes more
		return nil, false
	}
	answer, err := x.answer(&came, asked.JSON, types)
	if err != nil {
		return nil, false
	}
	_ = res.Close() // it has been read
	maps.DeleteFunc(res.Header, func(key string, _ []string) bool { return OfTransport(key) })
	for key, values := range res.Trailer {
		if !OfTransport(key) && len(values) > 0 {
			res.Header["Trailer-"+key] = values
		}
	}
	res.Header["Content-Type"] = contentType
	res.Header["Accept-Encoding"] = compressions
	res.Header["Content-Length"] = []string{strconv.Itoa(len(answer))}
	return upstream.NewResponse(&http.Response{
		StatusCode: http.StatusOK, Status: res.Status, Header: res.Header,
		Body: io.NopCloser(bytes.NewReader(answer)), ContentLength: int64(len(answer)),
	}), true
}

// plainAnswer is the message of a response, if that is all that there is to it. The response can be read as before.
func plainAnswer(res *upstream.Response) ([]byte, bool) {
	if contentType := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || contentType != inGRPC && contentType != inGRPCProto {
		return nil, false
	}
	raw, err := res.Ahead(envelopeHead + MaxMessage)
	message, ok := Unwrapped(raw)
	if !errors.Is(err, io.EOF) || !ok {
		return nil, false
	}
	status := res.Trailer["Grpc-Status"]
	return message, len(status) == 1 && status[0] == "0"
}

// Enveloped is a message in the envelope of gRPC, not compressed.
func Enveloped(message []byte) []byte {
	body := make([]byte, envelopeHead, envelopeHead+len(message))
	binary.BigEndian.PutUint32(body[1:], uint32(len(message)))
	return append(body, message...)
}

// Unwrapped is the message of a body that is one envelope of gRPC, not compressed; false: it is none.
func Unwrapped(body []byte) (message []byte, ok bool) {
	const plain = 0 // no flag
	if len(body) < envelopeHead || body[0] != plain || int64(binary.BigEndian.Uint32(body[1:])) != int64(len(body)-envelopeHead) {
		return nil, false
	}
	return body[envelopeHead:], true
}
