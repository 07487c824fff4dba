package mom

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/contract"
	"holdline/internal/upstream"
	"holdline/internal/wire"
)

// userAgent is the User-Agent of connect, for services.
const userAgent = "connect-go/" + connect.Version

// maxOwn is the maximum number of headers that a plain call has beside those of its caller.
const maxOwn = 7

// sendPlain sends a call in few steps, as most calls can be sent, and returns the response and its message, if the response is a message that came whole. If it
// returns nil, connect goes on: with the response that came, with the request that was sent, or from the start.
func (e *exchange) sendPlain(ctx context.Context, lease Lease, speech bridge.Speech, raw []byte, timeout time.Duration) (*wire.Response, []byte) {
	if e.alone || e.bare || speech.JSON && speech.Protocol == connect.ProtocolNameGRPC { // some servers take JSON in gRPC for proto
		return nil, nil
	}
	req, most := &e.request, strconv.FormatInt(timeout.Milliseconds(), 10)
	*req = wire.Request{Major: int(e.call.GetHttpMajor()), Authority: e.endpoint.Authority(), Path: e.call.GetProcedure(), Body: raw}
	req.Header = make([]hpack.HeaderField, 0, maxOwn+len(e.call.GetHeader()))
	switch speech.Protocol {
	case connect.ProtocolNameConnect:
		req.Header = append(req.Header, hpack.HeaderField{Name: "connect-protocol-version", Value: "1"}, hpack.HeaderField{Name: "connect-timeout-ms", Value: most})
	case connect.ProtocolNameGRPC:
		req.Header = append(req.Header, hpack.HeaderField{Name: "te", Value: "trailers"}, hpack.HeaderField{Name: "grpc-timeout", Value: most + "m"})
		req.Body = bridge.Enveloped(raw)
	default:
		return nil, nil
	}
	mediaType := speech.MediaType()
	req.Header = append(req.Header, hpack.HeaderField{Name: "content-type", Value: mediaType})
	if !e.addHeaders(req, lease) || len(req.Body) > wire.MaxPlain || !wire.IsPlain(req.Path) {
		return nil, nil
	}
	if e.ahead = e.endpoint.Begin(req, mediaType, time.Now()); e.ahead == nil {
		return nil, nil
	}
	res := e.ahead.Answer(ctx.Done(), timeout)
	if res == nil {
		return nil, nil
	}
	e.ahead, e.came = nil, res
	message, ok := plainMessage(res, speech)
	if !ok {
		return nil, nil
	}
	e.begun, e.status = true, res.Status
	return res, message
}

// addHeaders adds the headers of the call. It returns false if they are too large, or a header must not be sent.
func (e *exchange) addHeaders(req *wire.Request, lease Lease) bool {
	agent, size := userAgent, 0
	add := func(name, value string) bool {
		f := hpack.HeaderField{Name: wire.Lower(name), Value: value}
		if f.Name == "user-agent" {
			agent = ""
		}
		size += int(f.Size())
		req.Header = append(req.Header, f)
		return httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(value)
	}
	for _, m := range e.call.GetHeader() {
		for _, value := range valuesOf(m) {
			if !add(m.GetKey(), value) {
				return false
			}
		}
	}
	for _, own := range addedTo(lease) {
		if !add(own[0], own[1]) {
			return false
		}
	}
	if agent != "" {
		add("user-agent", agent)
	}
	return size <= upstream.LargeHeaders
}

// plainMessage is the message of a response, if the response has only a message: no error, and no compression.
func plainMessage(res *wire.Response, speech bridge.Speech) (message []byte, ok bool) {
	message = res.Body
	for _, f := range res.Header {
		if f.Name == "content-encoding" || f.Name == "content-type" && f.Value != speech.MediaType() || f.Name == "grpc-status" {
			return nil, false
		}
	}
	switch {
	case res.Status != http.StatusOK:
		return nil, false
	case speech.Protocol == connect.ProtocolNameGRPC:
		if message, ok = bridge.Unwrapped(message); !ok {
			return nil, false
		}
		for _, f := range res.Trailers {
			if f.Name == "grpc-status" && f.Value != "0" {
				return nil, false
			}
		}
	}
	return message, true
}

// plainMetadata returns the headers and trailers of a response that the record keeps. Most responses have none.
func plainMetadata(res *wire.Response, protocol string) (header, trailer []*momv1.Metadata) {
	var h, t http.Header
	for i, f := range res.Header {
		key := wire.Canonical(f.Name)
		if name, ok := strings.CutPrefix(key, "Trailer-"); ok && protocol == connect.ProtocolNameConnect {
			t = wire.AddFields(t, []hpack.HeaderField{{Name: name, Value: f.Value}})
		} else if isKept(key, contract.FromHoldline) {
			h = wire.AddFields(h, res.Header[i:i+1])
		}
	}
	for i, f := range res.Trailers {
		if isKept(wire.Canonical(f.Name), contract.FromHoldline) {
			t = wire.AddFields(t, res.Trailers[i:i+1])
		}
	}
	return metadata(maps.All(h), contract.FromHoldline), metadata(maps.All(t), contract.FromHoldline)
}

// asHTTP turns a plain response into one that connect can read.
func asHTTP(res *wire.Response) *http.Response {
	return &http.Response{
		StatusCode: res.Status, Status: strconv.Itoa(res.Status) + " " + http.StatusText(res.Status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: wire.AddFields(nil, res.Header), Trailer: wire.AddFields(nil, res.Trailers), Body: io.NopCloser(bytes.NewReader(res.Body)), ContentLength: int64(len(res.Body)),
	}
}
