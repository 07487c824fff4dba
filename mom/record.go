package mom

import (
	"iter"
	"slices"
	"unicode/utf8"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/contract"
)

// The versions of the records that this release knows. Records keep text in proto
// strings, which must be UTF-8, but HTTP allows other bytes, such as Latin-1. A
// record with such bytes has them in raw fields, and a record with a message in JSON has the message as it
// came. Such records have higher versions: older releases would lose or misread these parts.
const (
	recordVersion     = 1
	rawRecordVersion  = 2
	jsonRecordVersion = 3
	// BornRecordVersion is the version of the records that the store writes, whatever is in them: one field has everything about a task that never changes.
	BornRecordVersion = 4
)

func knownRecord(version uint32) bool {
	return recordVersion <= version && version <= jsonRecordVersion
}

// versionOf is the version of a record with these parts; json: its message is in JSON.
func versionOf(json bool, err *momv1.CallError, metadata ...[]*momv1.Metadata) uint32 {
	if json {
		return jsonRecordVersion
	}
	if len(err.GetRawMessage()) > 0 {
		return rawRecordVersion
	}
	for _, list := range metadata {
		if slices.ContainsFunc(list, func(m *momv1.Metadata) bool { return len(m.GetRawValues()) > 0 }) {
			return rawRecordVersion
		}
	}
	return recordVersion
}

// isKept tells whether the record keeps a header or a trailer. It keeps what one application wrote to the other. It does not keep
// the headers of Holdline's contract: a caller's were for gateway and MOM,
// and those from a service behind another Holdline are about the other Holdline's tasks.
func isKept(key string, sender contract.Sender) bool {
	return !contract.SentBy(sender, key) && !contract.IsOwn(key) && !bridge.OfTransport(key) && utf8.ValidString(key)
}

// metadata returns those headers or trailers that the record keeps.
func metadata(header iter.Seq2[string, []string], sender contract.Sender) (list []*momv1.Metadata) {
	for key, values := range header {
		if !isKept(key, sender) {
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
		header.SetValues(m.GetKey(), valuesOf(m))
	}
}

func valuesOf(m *momv1.Metadata) []string {
	values := m.GetValues()
	for _, raw := range m.GetRawValues() {
		values = append(values, string(raw))
	}
	return values
}
