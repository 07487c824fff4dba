package bridge

import (
	"errors"
	"iter"
	"maps"
	"unicode/utf8"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"

	momv1 "holdline/gen/mom/v1"
)

// ofTransport are headers that describe one exchange, and that the transport writes
// anew. Of the names that begin as the protocols' own it is those that the
// specifications give a meaning: other metadata may be called grpc-trace-bin.
var ofTransport = map[string]bool{
	// HTTP's (RFC 9110).
	"Accept-Encoding": true, "Content-Encoding": true, "Content-Length": true, "Content-Type": true,
	"Date": true, "Expect": true, "Host": true, "Te": true, "Trailer": true,
	// gRPC's (PROTOCOL-HTTP2.md).
	"Grpc-Timeout": true, "Grpc-Encoding": true, "Grpc-Accept-Encoding": true,
	"Grpc-Status": true, "Grpc-Message": true, "Grpc-Status-Details-Bin": true,
	// Connect's.
	"Connect-Protocol-Version": true, "Connect-Timeout-Ms": true,
	"Connect-Content-Encoding": true, "Connect-Accept-Encoding": true,
}

// OfTransport tells whether a header describes one exchange. All others are what application wrote to
// application.
func OfTransport(key string) bool { return ofTransport[key] }

// TransportHeaders are all headers of which OfTransport is true.
func TransportHeaders() iter.Seq[string] { return maps.Keys(ofTransport) }

// CallError is the record of a call's error; its code alone when it is none of RPC. What came with it
// says more of its details than connect does; nil: nothing came.
func CallError(err error, came *connect.CallInfo) *momv1.CallError {
	var rpcErr *connect.Error
	if !errors.As(err, &rpcErr) {
		return &momv1.CallError{Code: int32(connect.CodeOf(err))}
	}
	record := &momv1.CallError{Code: int32(rpcErr.Code())}
	if message := rpcErr.Message(); utf8.ValidString(message) {
		record.Message = message
	} else {
		record.RawMessage = []byte(message)
	}
	if came != nil {
		for _, header := range []*connect.Header{came.ResponseTrailer(), came.ResponseHeader()} {
			if details, ok := readDetails(header.Get(grpcDetails)); ok {
				record.Details = details
				return record
			}
		}
	}
	for _, detail := range rpcErr.Details() {
		record.Details = append(record.Details, connectproto.ErrorDetailToAny(detail))
	}
	return record
}
