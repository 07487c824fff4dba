package bridge

import (
	"slices"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"holdline/internal/coding"
	"holdline/internal/route"
	"holdline/internal/upstream"
)

// Speech is how one side of a call speaks.
type Speech struct {
	Protocol string // as connect names it
	JSON     bool
	Text     bool // gRPC-Web in base64
}

// SpeechOf is how the unary calls of a media type are spoken; false for one that is none of a protocol and
// codec that we speak.
func SpeechOf(mediaType string) (Speech, bool) {
	for _, protocol := range []string{connect.ProtocolNameConnect, connect.ProtocolNameGRPC, connect.ProtocolNameGRPCWeb} {
		for _, isJSON := range []bool{false, true} {
			for _, text := range []bool{false, protocol == connect.ProtocolNameGRPCWeb} {
				s := Speech{protocol, isJSON, text}
				full := s.MediaType()
				if bare, isProto := strings.CutSuffix(full, "+proto"); mediaType == full || isProto && mediaType == bare {
					return s, true
				}
			}
		}
	}
	return Speech{}, false
}

// MediaType is the Content-Type of unary calls that are spoken so.
func (s Speech) MediaType() string {
	codec := connect.CodecNameProto
	if s.JSON {
		codec = connect.CodecNameJSON
	}
	switch s.Protocol {
	case connect.ProtocolNameGRPC:
		return "application/grpc+" + codec
	case connect.ProtocolNameGRPCWeb:
		if s.Text {
			return grpcWebText + "+" + codec
		}
		return grpcWeb + "+" + codec
	}
	return "application/" + codec
}

// Known tells whether there is such a protocol.
func (s Speech) Known() bool {
	return s.Protocol == connect.ProtocolNameConnect || s.Protocol == connect.ProtocolNameGRPC || s.Protocol == connect.ProtocolNameGRPCWeb
}

// Ways are how to speak to a service one after the other, until it understands: as the caller does, and
// then as other callers would. What the service has lately not understood is left out, unless that is all.
func Ways(pool *upstream.Pool, caller Speech) (ways []Speech) {
	for _, speech := range append([]Speech{caller}, caller.Others()...) {
		if _, lacks := pool.Lacks(speech.MediaType()); !lacks {
			ways = append(ways, speech)
		}
	}
	if len(ways) == 0 {
		return []Speech{caller}
	}
	return ways
}

// Others are how else a service may be spoken to that does not understand its caller, those first that
// most services understand.
func (s Speech) Others() []Speech {
	all := []Speech{
		{Protocol: connect.ProtocolNameGRPC}, {Protocol: connect.ProtocolNameConnect},
		{Protocol: connect.ProtocolNameGRPCWeb}, {Protocol: connect.ProtocolNameConnect, JSON: true},
	}
	return slices.DeleteFunc(all, func(other Speech) bool { return other == s })
}

// Options are what connect needs of a client that speaks so, in messages of these schemas.
func (s Speech) Options(types *route.Schemas) []connecthttp.Option {
	options := []connecthttp.Option{
		connecthttp.WithCodecs(NewBinaryCodec(types), NewJSONCodec(types)),
		connecthttp.WithReadMaxBytes(MaxAnswer), connecthttp.WithCompressors(coding.Compressors()...),
	}
	switch s.Protocol {
	case connect.ProtocolNameGRPC:
		options = append(options, connecthttp.WithGRPC())
	case connect.ProtocolNameGRPCWeb:
		options = append(options, connecthttp.WithGRPCWeb())
	}
	if s.JSON {
		options = append(options, connecthttp.WithProtoJSON())
	}
	return options
}
