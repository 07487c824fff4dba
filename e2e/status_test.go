package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// failingWith serves a ledger that ends each call of the gRPC family with FAILED_PRECONDITION and those details,
// in trailers or, with only, in the headers alone.
func failingWith(tb testing.TB, addr, details string, only bool) {
	run(tb, serveFunc(tb, addr, func(w http.ResponseWriter, r *http.Request) {
		contentType := r.Header.Get("Content-Type")
		w.Header().Set("Content-Type", contentType)
		web := strings.HasPrefix(contentType, "application/grpc-web")
		if web && !only {
			trailers := "grpc-status: 9\r\ngrpc-message: no\r\ngrpc-status-details-bin: " + details + "\r\nledger-balance: even\r\n"
			_, _ = io.WriteString(w, enveloped(0x80, trailers))
			return
		}
		if !only {
			w.Header().Set("Trailer", "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, Ledger-Balance")
			w.WriteHeader(http.StatusOK)
		}
		w.Header().Set("Grpc-Status", "9")
		w.Header().Set("Grpc-Message", "no")
		w.Header().Set("Grpc-Status-Details-Bin", details)
		w.Header().Set("Ledger-Balance", "even")
	}))
}

// A status whose details cannot be read is an answer all the same: the call has run, and its service has said how
// that ended.
func TestUnreadableDetails(t *testing.T) {
	t.Parallel()
	bare, err := proto.Marshal(&status.Status{Message: "no code"})
	if err != nil {
		t.Fatal(err)
	}
	for name, details := range map[string]string{
		"no base64": "%%%", "cut": connect.EncodeBinaryHeader([]byte{0x08}), "no status": connect.EncodeBinaryHeader([]byte("what?")),
		"no Any": connect.EncodeBinaryHeader([]byte{0x08, 9, 0x1a, 1, 0xff}), "no code": connect.EncodeBinaryHeader(bare),
	} {
		for _, only := range []bool{false, true} {
			addr := freeport.Addr(t)
			s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
			failingWith(t, addr, details, only)
			for _, contentType := range []string{"application/grpc", "application/grpc-web+proto", "application/grpc+json"} {
				for _, method := range []string{"Read", "Post"} {
					message := ""
					got := speak(t, s.Gateway, method, contentType, message, "Prefer: respond-async, wait=60")
					if got.code != "9" && got.code != "failed_precondition" || got.text != "no" || got.task == "" {
						t.Errorf("%s, trailers only %v: %s in %s got %+v, want the service's error", name, only, method, contentType, got)
					}
				}
			}
		}
	}
}

// Details stay as they came, wherever their types are said to live.
func TestDetailsOfAnotherHost(t *testing.T) {
	t.Parallel()
	details := []*anypb.Any{
		{TypeUrl: "types.example.com/v2/ledger.v1.Entry", Value: []byte{8, 7}},
		{TypeUrl: "type.googleapis.com/ledger.v1.Entry", Value: []byte{8, 8}},
		{TypeUrl: "later.example.com/later.v1.Thing", Value: []byte("?")},
	}
	raw, err := proto.Marshal(&status.Status{Code: 9, Message: "no", Details: details})
	if err != nil {
		t.Fatal(err)
	}
	for _, only := range []bool{false, true} {
		addr := freeport.Addr(t)
		s := up(t, stack.Config{Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + addr}})
		failingWith(t, addr, connect.EncodeBinaryHeader(raw), only)
		for _, contentType := range []string{"application/grpc", "application/grpc-web+proto"} {
			got := speak(t, s.Gateway, "Post", contentType, "", "Prefer: respond-async, wait=60")
			same := got.code == "failed_precondition" && len(got.details) == len(details)
			for i := range details {
				same = same && proto.Equal(got.details[i], details[i])
			}
			if !same {
				t.Errorf("%s, trailers only %v: got %+v, want %v", contentType, only, got, details)
			}
			res, err := taskService(t, s.Gateway).GetTask(t.Context(), &momv1.GetTaskRequest{Id: got.task})
			if err != nil || len(res.GetAnswer().GetError().GetDetails()) != len(details) || !proto.Equal(res.GetAnswer().GetError().GetDetails()[0], details[0]) {
				t.Errorf("%s: GetTask has %v, %v, want %v", contentType, res, err, details)
			}
		}
	}
}

// required makes an amount a field that a message must have.
func required(file *descriptorpb.FileDescriptorProto) {
	file.Syntax = proto.String("proto2")
	file.GetMessageType()[0].GetField()[0].Label = descriptorpb.FieldDescriptorProto_LABEL_REQUIRED.Enum()
}

// Whether a message will do that lacks a required field is for its service to say, and its answer to the caller
// to read.
func TestRequiredFieldIsTheServices(t *testing.T) {
	t.Parallel()
	addr := freeport.Addr(t)
	s := up(t, stack.Config{Schemas: []string{imageAs(t, required)}, Routes: []string{ledgerService + "=http://" + addr}})
	(&mirror{}).serve(t, addr)
	for contentType, message := range map[string]string{
		"application/proto": "", "application/grpc": "", "application/grpc-web+proto": "\x2a\x02\x0a\x00",
		"application/json": "{}", "application/grpc+json": `{"owner":{"name":""}}`,
	} {
		got := speak(t, s.Gateway, "Post", contentType, message, "Prefer: respond-async, wait=60")
		if got.code != "" || got.message != message || got.task == "" {
			t.Errorf("%s: got %+v, want %q", contentType, got, message)
			continue
		}
		readAnswer(t, s.Gateway, got.task, http.StatusOK)
		readAnswer(t, s.Gateway, got.task, http.StatusOK, "Accept: application/proto")
	}
}
