package contract_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/types/known/timestamppb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

// What we write of an error is byte for byte what connect writes.
func TestErrorsAreAsConnectWritesThem(t *testing.T) {
	t.Parallel()
	errs := []error{
		connect.NewError(connect.CodeUnknown, ""),
		connect.NewError(connect.CodeInternal, "a \"quote\", <angles> & Umläute: ü\u2028, 100 %\n and \xff"),
		connect.NewError(connect.CodeAborted, "a detail that nobody knows").WithDetail(&connect.ErrorDetail{Type: "acme.v1.None", Value: []byte{1, 2, 3}}),
		connect.NewError(connect.CodeAborted, "").WithDetail(&connect.ErrorDetail{Type: "https://acme.example/acme.v1.None", Value: []byte{1}}),
		connect.NewError(connect.CodeAborted, "without a value").WithDetail(&connect.ErrorDetail{Type: "google.protobuf.Empty"}),
		connect.NewError(connect.CodeAborted, "no text").WithDetail(&connect.ErrorDetail{Type: "a\xff", Value: []byte{1}}),
		connect.NewError(connect.CodeAborted, "JSON that is nearly flat").WithDetail(&connect.ErrorDetail{Type: "acme.v1.None", Debug: []byte(`{"a":"b","c":"d"e"}`)}),
		connect.NewError(connect.CodeAborted, "JSON with blanks").WithDetail(&connect.ErrorDetail{Type: "acme.v1.None", Debug: []byte(`{"a":"b", "c":"<d>"}`)}),
		connect.NewError(connect.CodeAborted, "a long detail").WithDetail(&connect.ErrorDetail{Type: "acme.v1.None", Value: make([]byte, 1000)}),
		contract.WithDetail(connect.NewError(connect.CodeNotFound, "ours"), &momv1.Task{Id: "a<b>", Caller: "ü"}),
		connect.NewError(connect.CodeUnavailable, "without JSON").WithDetail(&connect.ErrorDetail{Type: "google.rpc.RetryInfo", Value: []byte{10, 2, 8, 1}}),
		connect.NewError(connect.CodeUnavailable, "with something else").WithDetail(&connect.ErrorDetail{Type: "google.rpc.RetryInfo", Value: []byte{10, 2, 8, 1}, Debug: []byte("{")}),
		contract.NewHandle(&momv1.TaskHandle{}),
		contract.NewHandle(&momv1.TaskHandle{Id: "a.B.0.x", State: 99}),
		contract.NewHandle(&momv1.TaskHandle{Id: "a.B.0.<x>ü", State: momv1.TaskState_TASK_STATE_RUNNING}),
	}
	for _, nanos := range []int{0, 1, 1000, 1_000_000, 100_000_000, 120_000_000, 123_450_000, 999_999_999} {
		errs = append(errs, contract.NewHandle(&momv1.TaskHandle{
			Id: "a.B.0.x", State: momv1.TaskState_TASK_STATE_QUEUED, ExpireTime: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 0, nanos, time.UTC)),
		}))
	}
	for _, n := range slices.Sorted(maps.Keys(momv1.Reason_name)) {
		errs = append(errs, contract.Errorf(momv1.Reason(n), "for the reason %s", momv1.Reason(n)))
	}
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		errs = append(errs, connect.NewError(code, "by its code"))
	}
	const procedure = "/a.B/C"
	for _, err := range errs {
		rpc, mux := connect.NewServer(), http.NewServeMux()
		rpc.Register(connect.Method{Spec: connect.Spec{Procedure: procedure}, Handler: func(context.Context, connect.Spec, connect.ServerStream) error { return err }})
		connecthttp.Mount(mux, rpc)
		ask := func(contentType string) *http.Response {
			r := httptest.NewRequest(http.MethodPost, procedure, strings.NewReader(""))
			r.Header.Set("Content-Type", contentType)
			w := httptest.NewRecorder()
			mux.ServeHTTP(&contract.StatusWriter{ResponseWriter: w, Status: contract.Status(err)}, r)
			return w.Result()
		}
		res := ask("application/json")
		want, _ := io.ReadAll(res.Body)
		if got, status := contract.AppendError(nil, err); !bytes.Equal(got, want) || status != res.StatusCode {
			t.Errorf("JSON: HTTP %d\n%s, want HTTP %d\n%s", status, got, res.StatusCode, want)
		}
		got := http.Header{}
		contract.StatusTrailers(err, got.Set)
		if want := ask("application/grpc").Trailer; !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("gRPC:\n%v, want\n%v", got, want)
		}
	}
}
