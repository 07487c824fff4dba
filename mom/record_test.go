package mom

import (
	"errors"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/contract"
)

// A record keeps what application wrote to application, byte by byte, and says in its version what a reader has to
// know to find it.
func TestMetadataIsKept(t *testing.T) {
	t.Parallel()
	came := new(connect.Header)
	for key, values := range map[string][]string{
		"X-Text": {"a", "b"}, "X-Latin": {"a", "\xe9"}, "X-Bin": {"AAE="}, "Content-Type": {"application/json"}, "Grpc-Timeout": {"1S"},
		"Holdline-Task": {"id"}, "Prefer": {"wait=3"},
	} {
		came.SetValues(key, values)
	}
	list := metadata(came.All(), contract.FromCaller)
	back := new(connect.Header)
	addMetadata(back, list)
	got := map[string][]string{}
	for key, values := range back.All() {
		got[key] = values
	}
	want := map[string][]string{"X-Text": {"a", "b"}, "X-Latin": {"a", "\xe9"}, "X-Bin": {"AAE="}}
	if len(got) != len(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for key, values := range want {
		if len(got[key]) != len(values) || got[key][0] != values[0] {
			t.Errorf("%s: got %q, want %q", key, got[key], values)
		}
	}
	for name, c := range map[string]struct {
		json bool
		err  *momv1.CallError
		list []*momv1.Metadata
		want uint32
	}{
		"text": {false, nil, list[:0], 1}, "bytes that are no text": {false, nil, list, 2}, "JSON": {true, nil, list, 3},
		"an error that is no text": {false, &momv1.CallError{RawMessage: []byte{0xe9}}, nil, 2},
	} {
		if v := versionOf(c.json, c.err, c.list); v != c.want || !knownRecord(v) {
			t.Errorf("%s: got version %d, want %d, which is known", name, v, c.want)
		}
	}
	if knownRecord(0) || knownRecord(4) {
		t.Error("a version of no release is known")
	}
}

// An error is kept with its details, and with a message that need not be text.
func TestErrorsAreKept(t *testing.T) {
	t.Parallel()
	raw, err := proto.Marshal(&errdetails.ErrorInfo{Reason: "R"})
	if err != nil {
		t.Fatal(err)
	}
	detail := &connect.ErrorDetail{Type: "google.rpc.ErrorInfo", Value: raw}
	record := bridge.CallError(connect.NewError(connect.CodeNotFound, "none").WithDetail(detail), nil)
	if record.GetCode() != 5 || record.GetMessage() != "none" || len(record.GetDetails()) != 1 || record.GetDetails()[0].GetTypeUrl() != "type.googleapis.com/google.rpc.ErrorInfo" {
		t.Errorf("got %v, want code, message and detail", record)
	}
	if record = bridge.CallError(connect.NewError(connect.CodeNotFound, "n\xf6ne"), nil); string(record.GetRawMessage()) != "n\xf6ne" || record.GetMessage() != "" {
		t.Errorf("of a message that is no text: got %v, want its bytes", record)
	}
	if record = bridge.CallError(errors.New("internals"), nil); record.GetMessage() != "" || connect.Code(record.GetCode()) != connect.CodeUnknown {
		t.Errorf("of an error that is none of RPC: got %v, want its code alone", record)
	}
}
