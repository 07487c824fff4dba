package bridge

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
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
// it in another way. It is answered byte for byte as connecthttp does, in a tenth of the time: there is no http.Request and no connect.CallInfo, and what is
// written is not reflected upon.
type PlainCall struct {
	Protocol string // as connect names it
	JSON     bool   // else the binary format
	// Timeout is the time that its caller gives it; 0 is without end.
	Timeout time.Duration

	mediaType string
	grpc      bool
	body      []byte             // the message
	packs     connect.Compressor // what its answer is compressed with; nil: nothing
}

// readers are how the calls of a media type are read.
var readers = map[string]struct {
	protocol string
	json     bool
}{
	plainJSON:   {connect.ProtocolNameConnect, true},
	plainProto:  {connect.ProtocolNameConnect, false},
	inGRPC:      {connect.ProtocolNameGRPC, false},
	inGRPCProto: {connect.ProtocolNameGRPC, false},
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
	c := &PlainCall{Protocol: how.protocol, JSON: how.json, mediaType: mediaType, grpc: how.protocol == connect.ProtocolNameGRPC, body: req.Body}
	if !c.readHeader(req.Header) {
		return nil
	}
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
	accepted, timed, cookie := false, false, false
	for _, f := range fields {
		again := false // of those that are there again, connect reads the first one, or net/http joins them
		switch f.Name {
		case inUse, "trailer":
			return false
		case "connect-protocol-version":
			if !c.grpc && f.Value != "1" {
				return false
			}
		case "cookie":
			again, cookie = cookie, true
		case accepts:
			again, accepted = accepted, true
			for name := range strings.FieldsFuncSeq(f.Value, func(r rune) bool { return r == ',' || r == ' ' }) {
				if c.packs = packers[name]; c.packs != nil {
					break
				}
			}
		case timeout:
			again, timed = timed, true
			var ok bool
			if c.Timeout, ok = contract.ParseTimeout(f.Value, c.grpc); !ok || c.Timeout <= 0 {
				return false
			}
		}
		if again {
			return false
		}
	}
	return true
}

// Receive has the message taken.
func (c *PlainCall) Receive(msg Incoming) error {
	if c.grpc && len(c.body) == 0 { // connect asks no codec about it
		return nil
	}
	if err := msg.Take(c.body, c.JSON); err != nil {
		return connect.Errorf(connect.CodeInvalidArgument, "unmarshal message: %s", err).WithCause(err)
	}
	return nil
}

// Respond is the response with an answer, or else for an error. The headers and trailers are named as in http.Header.
func (c *PlainCall) Respond(header, trailers []hpack.HeaderField, answer *Message, err error) *wire.Response {
	var message []byte
	if err == nil {
		message, err = c.pack(answer)
	}
	said := told(err)
	res := new(wire.Response)
	if c.grpc {
		c.respondGRPC(res, header, trailers, message, said)
	} else {
		c.respondConnect(res, header, trailers, message, said)
	}
	return res
}

// pack is the message of an answer, compressed if its caller asks for it.
func (c *PlainCall) pack(answer *Message) ([]byte, error) {
	if answer == nil {
		return nil, connect.NewError(connect.CodeInternal, "no answer")
	}
	message := answer.Bytes
	if answer.JSON && len(message) == 0 {
		message = noFields
	}
	if c.packs == nil {
		return message, nil
	}
	var packed bytes.Buffer
	w, err := c.packs.Compress(&packed)
	if err == nil {
		_, err = w.Write(message)
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		return nil, connect.Errorf(connect.CodeInternal, "compress: %s", err).WithCause(err)
	}
	return packed.Bytes(), nil
}

// told is what a caller is told of an error: a *connect.Error, or a *contract.HandleError; nil: nothing.
func told(err error) error {
	if handle, ok := err.(*contract.HandleError); ok { //nolint:errorlint // it is not wrapped
		return handle
	}
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

// respondConnect is Respond in Connect.
func (c *PlainCall) respondConnect(res *wire.Response, header, trailers []hpack.HeaderField, message []byte, said error) {
	c.begin(res, "accept-encoding", header, len(trailers))
	for _, f := range trailers {
		if !ofProtocols[f.Name] {
			res.Header = wire.AppendFields(res.Header, "Trailer-"+f.Name, f.Value)
		}
	}
	if said == nil {
		res.Status, res.Body = http.StatusOK, message
		if c.packs != nil {
			add(res, "content-encoding", c.packs.Name())
		}
	} else {
		res.Body, res.Status = contract.AppendError(make([]byte, 0, 1<<10), said)
		res.Header[0].Value = plainJSON
	}
	add(res, "content-length", strconv.Itoa(len(res.Body)))
}

// respondGRPC is Respond in gRPC.
func (c *PlainCall) respondGRPC(res *wire.Response, header, trailers []hpack.HeaderField, message []byte, said error) {
	c.begin(res, "grpc-accept-encoding", header, len(trailers))
	res.Status = http.StatusOK
	if c.packs != nil {
		add(res, "grpc-encoding", c.packs.Name())
	}
	if said == nil {
		res.Body = Enveloped(message)
		if c.packs != nil {
			res.Body[0] = 1
		}
	}
	res.Trailers = res.Header[len(res.Header):] // begin has made room for both
	for _, f := range trailers {
		if !ofProtocols[f.Name] && httpguts.ValidTrailerHeader(f.Name) {
			res.Trailers = wire.AppendFields(res.Trailers, f.Name, f.Value)
		}
	}
	contract.StatusTrailers(said, func(key, value string) {
		res.Trailers = wire.AppendFields(res.Trailers, key, value)
	})
}

// begin begins the headers of a response, with room for so many trailers.
func (c *PlainCall) begin(res *wire.Response, accepts string, header []hpack.HeaderField, trailers int) {
	const own = 7 // at most
	res.Header = append(make([]hpack.HeaderField, 0, len(header)+trailers+own), hpack.HeaderField{Name: "content-type", Value: c.mediaType})
	add(res, accepts, compressions[0])
	add(res, "date", wire.Date())
	for _, f := range header {
		if !ofProtocols[f.Name] {
			res.Header = wire.AppendFields(res.Header, f.Name, f.Value)
		}
	}
}

func add(res *wire.Response, name, value string) {
	res.Header = append(res.Header, hpack.HeaderField{Name: name, Value: value})
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
