package bridge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"

	"holdline/internal/coding"
	"holdline/internal/contract"
	"holdline/internal/wire"
)

// PlainCall is a unary call as most are: of Connect or gRPC, with a message that is not compressed, and with no header by which connect would treat
// it in another way. Handlers.Serve serves it as connecthttp does, and answers byte for byte as connecthttp does, in a fifth of the time: there is no
// http.Request, and what is written is not reflected upon. It is the connect.ServerStream of its function.
type PlainCall struct {
	Info connect.CallInfo
	// Timeout is the time that its caller gives it; 0 is without end.
	Timeout time.Duration

	mediaType string
	grpc      bool
	body      []byte // the message
	read      bool
	packs     connect.Compressor // what its answer is compressed with; nil: nothing
	sent      []byte
	answered  bool
	res       wire.Response
}

// readers are how the calls of a media type are read.
var readers = map[string]struct {
	protocol, codec string
	grpc            bool
}{
	plainJSON:   {connect.ProtocolNameConnect, connect.CodecNameJSON, false},
	plainProto:  {connect.ProtocolNameConnect, connect.CodecNameProto, false},
	inGRPC:      {connect.ProtocolNameGRPC, connect.CodecNameProto, true},
	inGRPCProto: {connect.ProtocolNameGRPC, connect.CodecNameProto, true},
}

// packers are the compressions that we know.
var packers = func() map[string]connect.Compressor {
	packers := map[string]connect.Compressor{}
	for _, c := range coding.Compressors() {
		packers[c.Name()] = c
	}
	return packers
}()

// ReadPlain reads a call. It returns nil for one that connecthttp has to serve.
func ReadPlain(req *wire.Request) *PlainCall {
	mediaType := ""
	for _, f := range req.Header {
		if f.Name == "content-type" {
			if mediaType != "" {
				return nil
			}
			mediaType = f.Value
		}
	}
	how, ok := readers[mediaType]
	if !ok {
		return nil
	}
	c := &PlainCall{mediaType: mediaType, grpc: how.grpc}
	c.Info.Protocol, c.Info.Codec = how.protocol, how.codec
	if !c.readHeader(req.Header) {
		return nil
	}
	c.body = req.Body
	if c.grpc {
		if c.body, ok = Unwrapped(c.body); !ok {
			return nil
		}
	}
	return c
}

// readHeader reads the headers; false: connecthttp has to.
func (c *PlainCall) readHeader(fields []hpack.HeaderField) bool {
	inUse, accepts, timeout := "content-encoding", "accept-encoding", "connect-timeout-ms"
	if c.grpc {
		inUse, accepts, timeout = "grpc-encoding", "grpc-accept-encoding", "grpc-timeout"
	}
	header, values := c.Info.RequestHeader(), make([]string, len(fields))
	for i, f := range fields {
		values[i] = f.Value
		header.SetValues(wire.Canonical(f.Name), values[i:i+1:i+1])
		switch f.Name {
		case inUse, "trailer":
			return false
		case "connect-protocol-version":
			if !c.grpc && f.Value != "1" {
				return false
			}
		case accepts:
			for name := range strings.FieldsFuncSeq(f.Value, func(r rune) bool { return r == ',' || r == ' ' }) {
				if c.packs = packers[name]; c.packs != nil {
					break
				}
			}
		case timeout:
			var ok bool
			if c.Timeout, ok = contract.ParseTimeout(f.Value, c.grpc); !ok || c.Timeout <= 0 {
				return false
			}
		}
	}
	return header.Len() == len(fields) || c.readAgain(fields, inUse, accepts, timeout)
}

// readAgain reads headers of which some have several values; false: connect reads the first value alone, or net/http joins them.
func (c *PlainCall) readAgain(fields []hpack.HeaderField, first ...string) bool {
	header := c.Info.RequestHeader()
	*header = connect.Header{}
	for _, f := range fields {
		if header.Has(f.Name) && (f.Name == "cookie" || slices.Contains(first, f.Name)) {
			return false
		}
		header.Add(f.Name, f.Value)
	}
	return true
}

// Receive implements connect.ServerStream.
func (c *PlainCall) Receive(msg any) error {
	if c.read {
		return io.EOF
	}
	c.read = true
	incoming, ok := msg.(Incoming)
	switch {
	case !ok:
		return connect.NewError(connect.CodeInternal, "a plain call is received as it came")
	case c.grpc && len(c.body) == 0: // connect asks no codec about it
		return nil
	}
	if err := incoming.Take(c.body, c.Info.Codec == connect.CodecNameJSON); err != nil {
		return connect.Errorf(connect.CodeInvalidArgument, "unmarshal message: %s", err).WithCause(err)
	}
	return nil
}

// SendHeaders implements connect.ServerStream. The headers of a unary call go with its answer.
func (c *PlainCall) SendHeaders() error { return nil }

// Send implements connect.ServerStream.
func (c *PlainCall) Send(msg any) error {
	answer, ok := msg.(*Message)
	if !ok {
		return connect.NewError(connect.CodeInternal, "a plain call is answered as its answer came")
	}
	c.sent = answer.Bytes
	if answer.JSON && len(c.sent) == 0 {
		c.sent = noFields
	}
	if c.packs != nil {
		var packed bytes.Buffer
		w, err := c.packs.Compress(&packed)
		if err == nil {
			_, err = w.Write(c.sent)
			err = errors.Join(err, w.Close())
		}
		if err != nil {
			return connect.Errorf(connect.CodeInternal, "compress: %s", err).WithCause(err)
		}
		c.sent = packed.Bytes()
	}
	c.answered = true
	return nil
}

// respond is the response when the function has returned.
func (c *PlainCall) respond(err error) *wire.Response {
	said := told(err)
	if said == nil && !c.answered {
		said = connect.NewError(connect.CodeInternal, "no answer")
	}
	if c.grpc {
		c.respondGRPC(said)
	} else {
		c.respondConnect(said)
	}
	return &c.res
}

// told is what the caller of a function is told of its error; nil: nothing.
func told(err error) *connect.Error {
	said, _ := errors.AsType[*connect.Error](err)
	switch {
	case err == nil:
		return nil
	case said != nil && !said.IsRemote():
		return said
	case said != nil:
		return connect.NewError(connect.CodeInternal, "")
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, "")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, "")
	}
	return connect.NewError(connect.CodeUnknown, "")
}

// respondConnect is respond in Connect. An answer that was sent is the answer.
func (c *PlainCall) respondConnect(said *connect.Error) {
	c.begin("accept-encoding")
	for key, values := range c.Info.ResponseTrailer().All() {
		if !ofProtocols[key] {
			c.res.Header = wire.AppendFields(c.res.Header, "Trailer-"+key, values)
		}
	}
	if c.answered {
		c.res.Status, c.res.Body = http.StatusOK, c.sent
		if c.packs != nil {
			c.add("content-encoding", c.packs.Name())
		}
	} else {
		c.res.Body, c.res.Status = contract.AppendError(make([]byte, 0, 1<<10), said)
		c.res.Header[0].Value = plainJSON
	}
	c.add("content-length", strconv.Itoa(len(c.res.Body)))
}

// respondGRPC is respond in gRPC.
func (c *PlainCall) respondGRPC(said *connect.Error) {
	c.begin("grpc-accept-encoding")
	c.res.Status = http.StatusOK
	if c.packs != nil {
		c.add("grpc-encoding", c.packs.Name())
	}
	if c.answered {
		c.res.Body = Enveloped(c.sent)
		if c.packs != nil {
			c.res.Body[0] = 1
		}
	}
	c.res.Trailers = c.res.Header[len(c.res.Header):] // begin has made room for both
	for key, values := range c.Info.ResponseTrailer().All() {
		if !ofProtocols[key] && httpguts.ValidTrailerHeader(key) {
			c.res.Trailers = wire.AppendFields(c.res.Trailers, key, values)
		}
	}
	contract.StatusTrailers(said, func(key, value string) {
		c.res.Trailers = wire.AppendFields(c.res.Trailers, key, []string{value})
	})
}

// begin begins the headers of the response.
func (c *PlainCall) begin(accepts string) {
	header := c.Info.ResponseHeader()
	c.res.Header = append(make([]hpack.HeaderField, 0, header.Len()+c.Info.ResponseTrailer().Len()+7), hpack.HeaderField{Name: "content-type", Value: c.mediaType})
	c.add(accepts, compressions[0])
	c.add("date", wire.Date())
	for key, values := range header.All() {
		if !ofProtocols[key] {
			c.res.Header = wire.AppendFields(c.res.Header, key, values)
		}
	}
}

func (c *PlainCall) add(name, value string) {
	c.res.Header = append(c.res.Header, hpack.HeaderField{Name: name, Value: value})
}

// noFields is JSON for a message without fields, which gRPC has none for.
var noFields = []byte("{}")

// ofProtocols are headers that connect writes itself.
var ofProtocols = map[string]bool{
	"Content-Type": true, "Content-Length": true, "Content-Encoding": true, "Trailer": true, "Date": true,
	"Accept-Encoding": true, "Trailer-": true, "Connect-Content-Encoding": true, "Connect-Accept-Encoding": true,
	"Connect-Timeout-Ms": true, "Connect-Protocol-Version": true,
	"Grpc-Encoding": true, "Grpc-Accept-Encoding": true, "Grpc-Timeout": true, "Grpc-Status": true, "Grpc-Message": true, "Grpc-Status-Details-Bin": true,
}
