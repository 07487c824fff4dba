package mom

import (
	"errors"
	"slices"
	"unicode/utf8"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// The versions of the records that this release knows. Records keep text in proto
// strings, which must be UTF-8, and HTTP lets other bytes pass, such as Latin-1. A
// record with such bytes has them in raw fields, and one with a message in JSON has it as it
// came. It says so with its version: releases before these would lose or misread them.
const (
	recordVersion     = 1
	rawRecordVersion  = 2
	jsonRecordVersion = 3
)

func knownRecord(version uint32) bool {
	return recordVersion <= version && version <= jsonRecordVersion
}

// versionOf is the version of a record with these parts; json: its message is.
func versionOf(json bool, err *momv1.CallError, metadata ...[]*momv1.Metadata) uint32 {
	if json {
		return jsonRecordVersion
	}
	if len(err.GetRawMessage()) > 0 {
		return rawRecordVersion
	}
	for _, m := range slices.Concat(metadata...) {
		if len(m.GetRawValues()) > 0 {
			return rawRecordVersion
		}
	}
	return recordVersion
}

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

// metadata is what is kept of headers or trailers: what application wrote to application. What
// such a sender writes by the contract ends here: a caller's was for gateway and MOM,
// and what a service behind another Holdline sends is about that one's tasks.
func metadata(header *connect.Header, sender contract.Sender) (list []*momv1.Metadata) {
	for key, values := range header.All() {
		if contract.SentBy(sender, key) || contract.IsOwn(key) || ofTransport[key] || !utf8.ValidString(key) {
			continue
		}
		m := &momv1.Metadata{Key: key}
		if slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }) {
			for _, v := range values {
				m.RawValues = append(m.RawValues, []byte(v))
			}
		} else {
			m.Values = values
		}
		list = append(list, m)
	}
	return list
}

func addMetadata(header *connect.Header, list []*momv1.Metadata) {
	for _, m := range list {
		values := m.GetValues()
		for _, raw := range m.GetRawValues() {
			values = append(values, string(raw))
		}
		header.SetValues(m.GetKey(), values)
	}
}

// callError is the record of a final error; its code alone when it is none of RPC.
func callError(err error) *momv1.CallError {
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
	for _, detail := range rpcErr.Details() {
		record.Details = append(record.Details, connectproto.ErrorDetailToAny(detail))
	}
	return record
}
