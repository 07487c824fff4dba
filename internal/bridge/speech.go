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
	Stream   bool // of Connect, which has other types for streams
}

// mediaTypes are the Content-Types of calls, by how they are spoken; speeches are the same the
// other way round, with the short names of those in the binary format.
var mediaTypes, speeches = makeSpeeches()

func makeSpeeches() (map[Speech]string, map[string]Speech) {
	types, all := map[Speech]string{}, map[string]Speech{}
	for prefix, s := range map[string]Speech{
		"application/":         {Protocol: connect.ProtocolNameConnect},
		"application/connect+": {Protocol: connect.ProtocolNameConnect, Stream: true},
		"application/grpc+":    {Protocol: connect.ProtocolNameGRPC},
		grpcWeb + "+":          {Protocol: connect.ProtocolNameGRPCWeb},
		grpcWebText + "+":      {Protocol: connect.ProtocolNameGRPCWeb, Text: true},
	} {
		types[s] = prefix + connect.CodecNameProto
		all[types[s]] = s
		if short, ok := strings.CutSuffix(prefix, "+"); ok {
			all[short] = s
		}
		s.JSON = true
		types[s] = prefix + connect.CodecNameJSON
		all[types[s]] = s
	}
	return types, all
}

// SpeechOf is how the calls of a media type are spoken; false for one that is none of a protocol and
// codec that we speak.
func SpeechOf(mediaType string) (Speech, bool) {
	s, ok := speeches[mediaType]
	return s, ok
}

// MediaType is the Content-Type of calls that are spoken so; empty where there is no such protocol.
func (s Speech) MediaType() string { return mediaTypes[s] }

// unary and streams are how services can be spoken to, those first that most services understand.
var (
	unary = []Speech{
		{Protocol: connect.ProtocolNameGRPC}, {Protocol: connect.ProtocolNameConnect},
		{Protocol: connect.ProtocolNameGRPCWeb}, {Protocol: connect.ProtocolNameConnect, JSON: true},
	}
	streams = []Speech{
		{Protocol: connect.ProtocolNameGRPC}, {Protocol: connect.ProtocolNameConnect, Stream: true},
		{Protocol: connect.ProtocolNameGRPCWeb}, {Protocol: connect.ProtocolNameConnect, JSON: true, Stream: true},
	}
)

// unaryWays and streamWays are all ways to speak to a service, by how the caller speaks: as it does, and then as others do.
var unaryWays, streamWays = makeWays(unary), makeWays(streams)

func makeWays(all []Speech) map[Speech][]Speech {
	ways := map[Speech][]Speech{}
	for s := range mediaTypes {
		ways[s] = append([]Speech{s}, slices.DeleteFunc(slices.Clone(all), func(other Speech) bool { return other == s })...)
	}
	return ways
}

// Ways are how to speak to a service one after the other, until it understands: as the caller does, and then as
// others do. What the service has lately not understood comes last, since the service may be another one by now. Nobody
// changes them.
func (s Speech) Ways(pool *upstream.Pool, stream bool) []Speech {
	all := unaryWays[s]
	if stream {
		all = streamWays[s]
	}
	if !pool.Picky() {
		return all
	}
	var ways, last []Speech
	for _, speech := range all {
		if _, lacks := pool.Lacks(speech.MediaType()); lacks {
			last = append(last, speech)
		} else {
			ways = append(ways, speech)
		}
	}
	return append(ways, last...)
}

// Heard is what came of one way to speak.
type Heard uint8

// What may come of it. Foreign: the service does not understand it, and nothing ran. Lossy: nothing was
// sent, since not all of the message can be said so.
const (
	Understood Heard = iota
	Foreign
	Lossy
)

// Speak tries ways until one is understood. A way in which not all of the message can be said is tried when no
// other is left; then less is true, and what the schema does not know is left out.
func Speak(ways []Speech, try func(way Speech, less bool) Heard) {
	var lossy []Speech
	for _, way := range ways {
		switch try(way, false) {
		case Understood:
			return
		case Lossy:
			lossy = append(lossy, way)
		}
	}
	for _, way := range lossy {
		if try(way, true) == Understood {
			return
		}
	}
}

// Options are what connect needs of a client that speaks so, in messages of these schemas.
func (s Speech) Options(types *route.Schemas) []connecthttp.Option {
	options := []connecthttp.Option{
		connecthttp.WithCodecs(NewBinaryCodec(types), NewJSONCodec(types)),
		connecthttp.WithReadMaxBytes(MaxMessage), connecthttp.WithCompressors(coding.Compressors()...),
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
