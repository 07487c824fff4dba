package e2e

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"connectrpc.com/grpcreflect/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/reflect/protoreflect"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/stack"
)

// Every wire gets its sums at the gateway.
func TestDirect(t *testing.T) {
	t.Parallel()
	sums(t, journey(t).Gateway)
}

// Every wire gets its sums at the service itself too.
func TestServiceItself(t *testing.T) {
	t.Parallel()
	sums(t, up(t, stack.Config{}).Service["sum"])
}

func sums(t *testing.T, addr string) {
	t.Helper()
	inf := math.Inf(1)
	for _, w := range wires() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			client := arithmeticv1connect.NewSumServiceClient(w.client(t, addr))
			for _, c := range []struct{ a, b, want float64 }{
				{1, 2, 3}, {1.5, 2.25, 3.75}, {0, 0, 0}, {1, inf, inf}, {inf, -inf, math.NaN()},
			} {
				res, err := client.Sum(t.Context(), &arithmeticv1.SumRequest{A: c.a, B: c.b})
				if err != nil {
					t.Fatalf("Sum(%v, %v): %v", c.a, c.b, err)
				}
				if got := res.GetResult(); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
					t.Errorf("Sum(%v, %v) = %v, want %v", c.a, c.b, got, c.want)
				}
			}
		})
	}
}

func TestOtherServices(t *testing.T) {
	t.Parallel()
	client := wire{http2: true}.client(t, journey(t).Gateway)
	difference, err := arithmeticv1connect.NewSubtractionServiceClient(client).Subtract(t.Context(), &arithmeticv1.SubtractRequest{A: 1, B: 2})
	if err != nil || difference.GetResult() != -1 {
		t.Errorf("1 - 2 = %v, %v; want -1", difference, err)
	}
	product, err := arithmeticv1connect.NewMultiplicationServiceClient(client).Multiply(t.Context(), &arithmeticv1.MultiplyRequest{A: 3, B: 2})
	if err != nil || product.GetResult() != 6 {
		t.Errorf("3 * 2 = %v, %v; want 6", product, err)
	}
}

// A dead service is unavailable, with RetryInfo, on every wire, to a caller who
// wants nothing stored.
func TestServiceDown(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Without: []string{"sum"}})
	for _, w := range wires() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			ctx, info := connect.NewClientContext(t.Context())
			info.RequestHeader().Set(contract.HeaderMode, "direct")
			_, err := arithmeticv1connect.NewSumServiceClient(w.client(t, s.Gateway)).Sum(ctx, &arithmeticv1.SumRequest{})
			if got := connect.CodeOf(err); got != connect.CodeUnavailable {
				t.Fatalf("code = %v (%v), want unavailable", got, err)
			}
			if got := contract.ReasonOf(err); got != momv1.Reason_REASON_SERVICE_UNAVAILABLE {
				t.Errorf("reason = %v, want SERVICE_UNAVAILABLE", got)
			}
			if retry := detail[*errdetails.RetryInfo](t, err); retry.GetRetryDelay().AsDuration() <= 0 {
				t.Errorf("RetryInfo = %v, want a delay", retry)
			}
		})
	}
}

// detail returns the error's detail of a type, its zero value when there is none.
func detail[T any](tb testing.TB, err error) (found T) {
	tb.Helper()
	var rpcErr *connect.Error
	if !errors.As(err, &rpcErr) {
		tb.Fatalf("error = %v, want an RPC error", err)
	}
	for _, d := range rpcErr.Details() {
		msg, err := connectproto.UnmarshalErrorDetail(d)
		if err != nil {
			tb.Fatalf("detail %s: %v", d.Type, err)
		}
		if m, ok := msg.(T); ok {
			return m
		}
	}
	return found
}

func TestBadCalls(t *testing.T) {
	t.Parallel()
	addr := journey(t).Gateway
	for _, c := range []struct {
		name, path, body string
		status           int
		code             string
	}{
		{"malformed JSON", "/arithmetic.v1.SumService/Sum", `{"a":`, 400, "invalid_argument"},
		{"wrong type", "/arithmetic.v1.SumService/Sum", `{"a": "one"}`, 400, "invalid_argument"},
		{"unknown method", "/arithmetic.v1.SumService/Divide", `{}`, 501, "unimplemented"},
		{"no route", "/arithmetic.v1.DivisionService/Divide", `{}`, 404, "unimplemented"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			res, body := post(t, "http://"+addr+c.path, c.body)
			if res.StatusCode != c.status || !strings.Contains(body, `"code":"`+c.code+`"`) {
				t.Errorf("got %d %s, want %d with code %s", res.StatusCode, body, c.status, c.code)
			}
		})
	}
}

func TestReflection(t *testing.T) {
	t.Parallel()
	reflected(t, journey(t).Gateway, "gateway.v1.DirectoryService", "arithmetic.v1.SumService")
}

func TestServiceReflection(t *testing.T) {
	t.Parallel()
	reflected(t, up(t, stack.Config{}).Service["multiplication"], "arithmetic.v1.MultiplicationService")
}

// reflected checks that a server tells these services among others.
func reflected(tb testing.TB, addr string, want ...protoreflect.FullName) {
	tb.Helper()
	stream := grpcreflect.NewClient(wire{http2: true}.client(tb, addr)).NewStream(tb.Context())
	services, err := stream.ListServices()
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range want {
		if !slices.Contains(services, name) {
			tb.Errorf("services = %v, want %s among them", services, name)
		}
	}
	if err := stream.Close(); err != nil {
		tb.Error(err)
	}
}
