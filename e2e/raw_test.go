package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"holdline/internal/contract"
)

// heard is what a caller that knows its protocol byte by byte hears.
type heard struct {
	status  int    // of HTTP
	code    string // of the RPC error, empty without one
	text    string
	reason  string // of Holdline
	message string
	task    string
	details []*anypb.Any
	header  http.Header
}

// speak sends a message to the ledger as the bytes that it is, in the protocol that the
// content type names, and with headers as "Key: value".
func speak(tb testing.TB, addr, method, contentType, message string, headers ...string) heard {
	tb.Helper()
	inEnvelope := strings.HasPrefix(contentType, "application/grpc")
	web, text := strings.HasPrefix(contentType, "application/grpc-web"), strings.HasPrefix(contentType, "application/grpc-web-text")
	if inEnvelope {
		flags := byte(0)
		if strings.Contains(strings.Join(headers, "\n"), "Grpc-Encoding: ") {
			flags = 1
		}
		message = enveloped(flags, message)
	}
	if text {
		message = base64.StdEncoding.EncodeToString([]byte(message))
	}
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "http://"+addr+"/"+ledgerService+"/"+method, strings.NewReader(message))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if inEnvelope && !web {
		req.Header.Set("Te", "trailers")
	}
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		req.Header.Set(key, value)
	}
	transport := wire{http2: inEnvelope && !web}.transport(tb)
	transport.DisableKeepAlives, transport.DisableCompression = true, true
	res, err := transport.RoundTrip(req)
	if err != nil {
		tb.Errorf("%s: %v", contentType, err)
		return heard{}
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Errorf("%s: %v", contentType, err)
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/grpc-web-text") {
		if raw, err = base64.StdEncoding.DecodeString(string(raw)); err != nil {
			tb.Errorf("%s: %v", contentType, err)
		}
	}
	h := heard{status: res.StatusCode, task: res.Header.Get(contract.HeaderTask), header: res.Header}
	switch {
	case inEnvelope && res.StatusCode == http.StatusOK:
		h.readEnvelopes(tb, raw, res.Header, res.Trailer)
	case res.StatusCode == http.StatusOK:
		h.message = string(raw)
	default:
		h.readError(tb, raw)
	}
	return h
}

// readError reads a Connect error.
func (h *heard) readError(tb testing.TB, raw []byte) {
	tb.Helper()
	var rpcErr struct{ Code, Message string }
	if json.Unmarshal(raw, &rpcErr) == nil {
		h.code, h.text, h.reason = rpcErr.Code, rpcErr.Message, reasonIn(tb, string(raw))
	}
}

// readEnvelopes reads what gRPC and gRPC-Web have in theirs, and in headers and trailers.
func (h *heard) readEnvelopes(tb testing.TB, raw []byte, header, trailer http.Header) {
	tb.Helper()
	all := header.Clone()
	for key, values := range trailer {
		all[key] = values
	}
	for len(raw) >= 5 {
		flags, size := raw[0], int(binary.BigEndian.Uint32(raw[1:]))
		part := raw[5 : 5+size]
		raw = raw[5+size:]
		if flags&0x80 == 0 {
			h.message = string(part)
			continue
		}
		if flags&1 != 0 {
			part = []byte(heard{message: string(part), header: header}.unpacked(tb))
		}
		for line := range strings.SplitSeq(string(bytes.TrimSpace(part)), "\r\n") {
			key, value, _ := strings.Cut(line, ":")
			all.Set(textproto.CanonicalMIMEHeaderKey(key), strings.TrimSpace(value))
		}
	}
	code := all.Get("Grpc-Status")
	if code == "0" {
		return
	}
	h.code, h.text = code, all.Get("Grpc-Message")
	details, err := connect.DecodeBinaryHeader(all.Get("Grpc-Status-Details-Bin"))
	if err != nil {
		return
	}
	var s status.Status
	if err := proto.Unmarshal(details, &s); err != nil {
		tb.Errorf("grpc-status-details-bin: %v", err)
	}
	if s.GetCode() != 0 {
		h.code = connect.Code(s.GetCode()).String()
	}
	h.details = s.GetDetails()
	for _, detail := range s.GetDetails() {
		var info errdetails.ErrorInfo
		if detail.UnmarshalTo(&info) == nil {
			h.reason = info.GetReason()
		}
	}
}

// enveloped puts a message into the envelope of gRPC, of gRPC-Web and of Connect's streams.
func enveloped(flags byte, message string) string {
	return string(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message)))) + message
}

// answerAs writes a message as the answer to a call in the protocol that its content
// type names.
func answerAs(w http.ResponseWriter, contentType string, message []byte) {
	w.Header().Set("Content-Type", contentType)
	if !strings.HasPrefix(contentType, "application/grpc") {
		_, _ = w.Write(message)
		return
	}
	frame := enveloped(0, string(message))
	if !strings.HasPrefix(contentType, "application/grpc-web") {
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = io.WriteString(w, frame)
		w.Header().Set("Grpc-Status", "0")
		return
	}
	_, _ = io.WriteString(w, frame+enveloped(0x80, "grpc-status: 0\r\n"))
}

// messageOf reads the message of a call in any protocol.
func messageOf(r *http.Request) []byte {
	raw, _ := io.ReadAll(r.Body)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") && len(raw) >= 5 {
		return raw[5:]
	}
	return raw
}
