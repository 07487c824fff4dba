package bridge

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"connectrpc.com/connect/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// frame is one of gRPC-Web.
func frame(flags byte, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(body)))) + body
}

// A status counts even if its message is not encoded as it should be, wherever it is written.
func TestStatusIsMended(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{"fine", "fine"}, {"100%25 sure", "100%25 sure"}, {"100% sure", "100%25 sure"}, {"%", "%25"}, {"%4", "%254"}, {"%zz%41", "%25zz%41"},
	} {
		header := http.Header{"Grpc-Message": {c[0]}}
		mendStatus(header)
		if got := header.Get("Grpc-Message"); got != c[1] {
			t.Errorf("%q: got %q, want %q", c[0], got, c[1])
		}
		trailers := &http.Response{Header: http.Header{"Content-Type": {"application/grpc"}}, Body: io.NopCloser(strings.NewReader("abc")), Trailer: http.Header{"Grpc-Message": {c[0]}}}
		TakeLeniently(trailers, connect.ProtocolNameGRPC)
		if body, err := io.ReadAll(trailers.Body); err != nil || string(body) != "abc" || trailers.Trailer.Get("Grpc-Message") != c[1] {
			t.Errorf("%q in trailers: got %q, %v, %v, want the body as it is, and %q", c[0], body, err, trailers.Trailer, c[1])
		}
		message := frame(0, "abc")
		web := &http.Response{Header: http.Header{"Content-Type": {"application/grpc-web+proto"}},
			Body: io.NopCloser(strings.NewReader(message + frame(0x80, "grpc-status: 5\r\ngrpc-message: "+c[0]+"\r\n")))}
		TakeLeniently(web, connect.ProtocolNameGRPCWeb)
		want := message + frame(0x80, "grpc-message: "+c[1]+"\r\ngrpc-status: 5\r\n")
		if body, err := io.ReadAll(web.Body); err != nil || string(body) != want {
			t.Errorf("%q in a frame: got %q, %v, want %q", c[0], body, err, want)
		}
	}
}

// What is no body of gRPC-Web passes as it is: whoever reads it finds out.
func TestOtherBodiesAreLeft(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "abc", frame(0, "abc"), frame(0, "abc")[:6], frame(0, "abc") + frame(1, "zip")} {
		for size := 1; size <= len(body)+1; size++ { // however it comes
			web := &webBody{ReadCloser: io.NopCloser(iotest.OneByteReader(strings.NewReader(body)))}
			got, err := io.ReadAll(io.MultiReader(io.LimitReader(web, int64(size)), web))
			if string(got) != body || err != nil {
				t.Errorf("%q: got %q, %v, want it as it is", body, got, err)
			}
		}
	}
	broken := &http.Response{Header: http.Header{"Content-Type": {"application/grpc-web"}}, Body: io.NopCloser(io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(io.ErrUnexpectedEOF)))}
	TakeLeniently(broken, connect.ProtocolNameGRPCWeb)
	if body, err := io.ReadAll(broken.Body); string(body) != "abc" || err != io.ErrUnexpectedEOF { //nolint:errorlint // as it is
		t.Errorf("a body that breaks: got %q, %v, want it to break where it did", body, err)
	}
}

// A media type loses what is said of its text, which is UTF-8 in any case, and nothing else.
func TestMediaTypeIsMended(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{"application/json; charset=UTF-8", "application/json"}, {"application/json;charset=utf-8", "application/json"},
		{"application/json", "application/json"}, {"text/html; charset=latin-1", "text/html; charset=latin-1"}, {"a/b; x=1", "a/b"}, {"", ""},
	} {
		header := http.Header{"Content-Type": {c[0]}}
		mendType(header)
		if got := header.Get("Content-Type"); got != c[1] {
			t.Errorf("%q: got %q, want %q", c[0], got, c[1])
		}
	}
}

// Details are read as they came, even of a status whose message is not UTF-8; what cannot be read is dropped, and the
// status stays.
func TestDetailsAreRead(t *testing.T) {
	t.Parallel()
	detail, err := anypb.New(&errdetails.ErrorInfo{Reason: "R"})
	if err != nil {
		t.Fatal(err)
	}
	detail.TypeUrl = "types.example/" + string(detail.MessageName())
	raw, err := proto.Marshal(&spb.Status{Code: 5, Message: "none", Details: []*anypb.Any{detail}})
	if err != nil {
		t.Fatal(err)
	}
	latin := bytes.Replace(raw, []byte("none"), []byte("n\xf6ne"), 1)
	fine := base64.RawStdEncoding.EncodeToString
	for name, c := range map[string]struct {
		encoded string
		ok      bool
	}{
		"as it should be": {fine(raw), true}, "padded": {base64.StdEncoding.EncodeToString(raw), true}, "Latin-1": {fine(latin), true},
		"no base64": {"%%%", false}, "cut": {fine(raw[:len(raw)-1]), false}, "no status": {"", false},
		"a detail that is none": {fine([]byte{8, 5, 0x1a, 1, 0xff}), false},
	} {
		details, ok := readDetails(c.encoded)
		if ok != c.ok || ok && (len(details) != 1 || !proto.Equal(details[0], detail)) {
			t.Errorf("%s: got %v, %v, want %v, with the detail as it came: %v", name, details, ok, c.ok, detail)
		}
		header := http.Header{"Grpc-Status-Details-Bin": {c.encoded}, "Grpc-Status": {"5"}}
		mendStatus(header)
		if got := header.Get("Grpc-Status-Details-Bin"); (got != "") != c.ok || header.Get("Grpc-Status") != "5" {
			t.Errorf("%s: got %v, want the details %v, and the status", name, header, c.ok)
		}
	}
}
