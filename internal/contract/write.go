package contract

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	momv1 "holdline/gen/mom/v1"
)

// AppendError appends an error as the Connect protocol has it in the body of a unary response, byte for byte as connect writes it, and returns the HTTP status
// of that response, too. The error is a *connect.Error, or a *HandleError. It takes a fifth of the time of connect, which reflects on each field and looks at
// each byte several times.
func AppendError(out []byte, err error) (body []byte, status int) {
	code, message, details := parts(err)
	if status = reasons[reasonIn(details)].status; status == 0 {
		status = statuses[code]
	}
	out = appendText(append(out, `{"code":`...), code.String())
	if message != "" {
		out = appendText(append(out, `,"message":`...), message)
	}
	for i, detail := range details {
		begin := byte(',')
		if i == 0 {
			out, begin = append(out, `,"details":`...), '['
		}
		out = append(out, begin)
		if known, ok := written[detail]; ok {
			out = append(out, known.json...)
		} else {
			out = appendDetail(out, detail)
		}
	}
	if out[len(out)-1] == '}' {
		out = append(out, ']')
	}
	return append(out, '}'), status
}

// parts are what callers are told of an error: a *connect.Error, or a *HandleError.
func parts(err error) (code connect.Code, message string, details []*connect.ErrorDetail) {
	switch err := err.(type) { //nolint:errorlint // it is not wrapped
	case *HandleError:
		return reasons[momv1.Reason_REASON_CALL_STORED].code, err.message, err.details
	case *connect.Error:
		return err.Code(), err.Message(), err.Details()
	}
	return connect.CodeUnknown, "", nil
}

// written are the details that are always the same, as AppendError and StatusTrailers write them.
var written = func() map[*connect.ErrorDetail]struct{ json, proto []byte } {
	written := map[*connect.ErrorDetail]struct{ json, proto []byte }{}
	for _, some := range details {
		for _, detail := range some {
			inStatus, _ := appendToStatus(nil, detail) // messages of linked types always marshal
			written[detail] = struct{ json, proto []byte }{appendDetail(nil, detail), inStatus}
		}
	}
	return written
}()

func appendDetail(out []byte, detail *connect.ErrorDetail) []byte {
	out = appendText(append(out, `{"type":`...), detail.Type)
	out = base64.RawStdEncoding.AppendEncode(append(out, `,"value":"`...), detail.Value)
	out = append(out, '"')
	debug := detail.Debug
	if isFlat(debug) {
		return append(append(append(out, `,"debug":`...), debug...), '}')
	}
	if !json.Valid(debug) { // who makes an error of what came need not have written it
		debug = nil
		if msg, err := connectproto.UnmarshalErrorDetail(detail); err == nil {
			var buffer bytes.Buffer
			var codec connectproto.JSONCodec
			if codec.MarshalWrite(context.Background(), &buffer, msg) == nil {
				debug = buffer.Bytes()
			}
		}
	}
	if len(debug) > 0 {
		if line, err := json.Marshal(json.RawMessage(debug)); err == nil {
			out = append(append(out, `,"debug":`...), line...)
		}
	}
	return append(out, '}')
}

// appendText appends a text as JSON.
func appendText(out []byte, text string) []byte {
	if !isPlain(text) {
		line, _ := json.Marshal(text) // texts always marshal
		return append(out, line...)
	}
	return append(append(append(out, '"'), text...), '"')
}

// isPlain tells whether nothing in a text has to be escaped.
func isPlain[T string | []byte](text T) bool {
	for i := range len(text) {
		if !plain[text[i]] {
			return false
		}
	}
	return true
}

// plain are the bytes that have not to be escaped.
var plain = func() (plain [256]bool) {
	for b := ' '; b < 0x7f; b++ {
		plain[b] = !strings.ContainsRune(`"\<>&`, b)
	}
	return plain
}()

// isFlat tells whether JSON is an object without blanks, of which all values are plain texts, as that of a handle is. encoding/json would not change it.
func isFlat(object []byte) bool {
	inner, begins := bytes.CutPrefix(object, []byte(`{"`))
	inner, ends := bytes.CutSuffix(inner, []byte(`"}`))
	for field := range bytes.SplitSeq(inner, []byte(`","`)) {
		key, value, ok := bytes.Cut(field, []byte(`":"`))
		if !ok || !isPlain(key) || !isPlain(value) {
			return false
		}
	}
	return begins && ends
}

// StatusTrailers calls add with the trailers by which gRPC tells how a call has ended, as connect writes them; nil: well. The error is as that
// of AppendError. The names of the trailers are those of http.Header.
func StatusTrailers(err error, add func(key, value string)) {
	if err == nil {
		add("Grpc-Status", "0")
		return
	}
	code, message, details := parts(err)
	var status []byte
	if len(details) > 0 {
		var flaw error
		if status, flaw = appendStatus(make([]byte, 0, 1<<10), code, message, details); flaw != nil {
			code, message, status = connect.CodeInternal, "marshal protobuf status: "+flaw.Error(), nil
		}
	}
	add("Grpc-Status", strconv.Itoa(int(code)))
	add("Grpc-Message", percentEncode(message))
	if len(status) > 0 {
		add("Grpc-Status-Details-Bin", string(base64.RawStdEncoding.AppendEncode(status, status)[len(status):]))
	}
}

// appendStatus appends a google.rpc.Status.
func appendStatus(out []byte, code connect.Code, message string, details []*connect.ErrorDetail) (_ []byte, err error) {
	const codeField, messageField = 1, 2
	out = protowire.AppendTag(out, codeField, protowire.VarintType)
	out = protowire.AppendVarint(out, uint64(code))
	if message != "" {
		out = protowire.AppendTag(out, messageField, protowire.BytesType)
		out = protowire.AppendString(out, message)
	}
	for _, detail := range details {
		if known, ok := written[detail]; ok {
			out = append(out, known.proto...)
		} else if out, err = appendToStatus(out, detail); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// appendToStatus appends a detail as a google.rpc.Status has it.
func appendToStatus(out []byte, detail *connect.ErrorDetail) ([]byte, error) {
	const detailsField, urlField, valueField = 3, 1, 2
	if !utf8.ValidString(detail.Type) {
		return proto.Marshal(connectproto.ErrorDetailToAny(detail)) // the error is its own
	}
	prefix := "type.googleapis.com/"
	if strings.Contains(detail.Type, "/") {
		prefix = ""
	}
	var room [256]byte
	packed := protowire.AppendTag(room[:0], urlField, protowire.BytesType) // a google.protobuf.Any
	packed = protowire.AppendVarint(packed, uint64(len(prefix)+len(detail.Type)))
	packed = append(append(packed, prefix...), detail.Type...)
	if len(detail.Value) > 0 {
		packed = protowire.AppendTag(packed, valueField, protowire.BytesType)
		packed = protowire.AppendBytes(packed, detail.Value)
	}
	out = protowire.AppendTag(out, detailsField, protowire.BytesType)
	return protowire.AppendBytes(out, packed), nil
}

// percentEncode writes a text as gRPC has it in a header.
func percentEncode(text string) string {
	const hex = "0123456789ABCDEF"
	escaped := func(b byte) bool { return b < ' ' || b > '~' || b == '%' }
	for i := range len(text) {
		if !escaped(text[i]) {
			continue
		}
		out := append(make([]byte, 0, 2*len(text)), text[:i]...)
		for ; i < len(text); i++ {
			if b := text[i]; escaped(b) {
				out = append(out, '%', hex[b>>4], hex[b&15])
			} else {
				out = append(out, b)
			}
		}
		return string(out)
	}
	return text
}

// statuses are those of the codes in HTTP, as the Connect protocol has them.
var statuses = map[connect.Code]int{
	connect.CodeCanceled:           499,
	connect.CodeUnknown:            http.StatusInternalServerError,
	connect.CodeInvalidArgument:    http.StatusBadRequest,
	connect.CodeDeadlineExceeded:   http.StatusGatewayTimeout,
	connect.CodeNotFound:           http.StatusNotFound,
	connect.CodeAlreadyExists:      http.StatusConflict,
	connect.CodePermissionDenied:   http.StatusForbidden,
	connect.CodeResourceExhausted:  http.StatusTooManyRequests,
	connect.CodeFailedPrecondition: http.StatusBadRequest,
	connect.CodeAborted:            http.StatusConflict,
	connect.CodeOutOfRange:         http.StatusBadRequest,
	connect.CodeUnimplemented:      http.StatusNotImplemented,
	connect.CodeInternal:           http.StatusInternalServerError,
	connect.CodeUnavailable:        http.StatusServiceUnavailable,
	connect.CodeDataLoss:           http.StatusInternalServerError,
	connect.CodeUnauthenticated:    http.StatusUnauthorized,
}
