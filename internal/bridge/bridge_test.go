package bridge_test

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // for an answer that is compressed
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/bridge"
	"holdline/internal/route"
	"holdline/internal/server/servertest"
	"holdline/internal/upstream"
)

const (
	service = "arithmetic.v1.SumService"
	method  = "/" + service + "/Sum"
)

var inGRPC = bridge.Speech{Protocol: connect.ProtocolNameGRPC}

// stock is a server of grpc-go that sums, and shows what it was asked with.
func stock(tb testing.TB, sum func(context.Context, *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error)) *upstream.Endpoint {
	tb.Helper()
	return at(tb, servertest.GRPC(tb, "127.0.0.1:0", &grpc.ServiceDesc{ServiceName: service, Methods: []grpc.MethodDesc{{MethodName: "Sum",
		Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			req := new(arithmeticv1.SumRequest)
			if err := decode(req); err != nil {
				return nil, err
			}
			return sum(ctx, req)
		}}}}, nil))
}

// at is the endpoint at an address.
func at(tb testing.TB, addr string) *upstream.Endpoint {
	tb.Helper()
	pool := upstream.NewPool(upstream.Config{
		Service: service, Endpoints: []*url.URL{{Scheme: "http", Host: addr}}, Log: slog.New(slog.DiscardHandler),
	})
	tb.Cleanup(pool.Close)
	return pool.Pick()
}

func newBridge(tb testing.TB) tried {
	tb.Helper()
	schemas, err := route.LoadSchemas()
	if err != nil {
		tb.Fatal(err)
	}
	return tried{bridge.New(schemas, bridge.Hooks{Doubt: func(string) {}, Unwritten: func(*route.Method, *connect.Error) {}}), schemas.Method(method)}
}

// tried is a bridge of one method.
type tried struct {
	*bridge.Bridge
	method *route.Method
}

// Try is the bridge's.
func (b tried) Try(ctx context.Context, endpoint *upstream.Endpoint, req *upstream.Request, to bridge.Speech, less bool) (*upstream.Response, upstream.Outcome, error) {
	return b.Bridge.Try(ctx, endpoint, b.method, req, to, less)
}

// inJSON is a call of Connect in JSON.
func inJSON(body string, headers ...string) *upstream.Request {
	req := &upstream.Request{
		Method: http.MethodPost, URL: &url.URL{Path: method}, HTTPMajor: 1, Body: []byte(body), Length: int64(len(body)),
		Header: http.Header{"Content-Type": {"application/json"}},
	}
	for _, header := range headers {
		key, value, _ := strings.Cut(header, ": ")
		req.Header.Add(key, value)
	}
	return req
}

func double(_ context.Context, req *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
	return &arithmeticv1.SumResponse{Result: req.GetA() + req.GetB()}, nil
}

// What application writes to application goes across, both ways; what belongs to a protocol does not.
func TestBridgePassesAll(t *testing.T) {
	t.Parallel()
	endpoint := stock(t, func(ctx context.Context, req *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
		came, _ := metadata.FromIncomingContext(ctx)
		deadline, ok := ctx.Deadline()
		if left := time.Until(deadline); !ok || left > 5*time.Second || left < time.Second {
			t.Errorf("the deadline is in %v (%v), want the caller's", left, ok)
		}
		_ = grpc.SetHeader(ctx, metadata.Pairs("page", strings.Join(came.Get("color"), "|"), "seal-bin", "\x00\xff"))
		_ = grpc.SetTrailer(ctx, metadata.Pairs("weight", strings.Join(came.Get("connect-timeout-ms"), "")+"none"))
		return double(ctx, req)
	})
	for name, c := range map[string]struct {
		req  *upstream.Request
		want string
	}{
		"JSON":               {inJSON(`{"a": 1, "b": 2, "later": true}`, "Connect-Timeout-Ms: 4000", "Color: red", "Color: blue"), `{"result":3}`},
		"gRPC-Web in Base64": {textCall(), ""},
	} {
		res, outcome, err := newBridge(t).Try(t.Context(), endpoint, c.req, inGRPC, true)
		if err != nil || outcome != (upstream.Outcome{}) {
			t.Fatalf("%s: got %v, %v", name, outcome, err)
		}
		body, _ := io.ReadAll(res)
		if c.want == "" {
			plain, err := base64.StdEncoding.DecodeString(string(body[:len(body)&^3]))
			if err != nil || !strings.Contains(strings.ToLower(string(plain)), "weight: none") || res.Header.Get("Content-Type") != "application/grpc-web-text+proto" {
				t.Errorf("%s: got %q, %v, %v", name, plain, err, res.Header)
			}
			continue
		}
		if string(body) != c.want || res.StatusCode != http.StatusOK || res.Header.Get("Page") != "red|blue" ||
			res.Header.Get("Seal-Bin") != "AP8" || res.Header.Get("Trailer-Weight") != "none" || res.Header.Get("Grpc-Status") != "" {
			t.Errorf("%s: got %d %q %v", name, res.StatusCode, body, res.Header)
		}
	}
}

// What is plain is answered as connect would answer it, to the last header.
func TestPlainIsAsConnect(t *testing.T) {
	t.Parallel()
	large := make([]byte, 2<<10)
	for name, answer := range map[string]func(context.Context, *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error){
		"a sum": double,
		"nothing": func(context.Context, *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
			return new(arithmeticv1.SumResponse), nil
		},
		"with metadata": func(ctx context.Context, req *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
			came, _ := metadata.FromIncomingContext(ctx)
			_ = grpc.SetHeader(ctx, metadata.Pairs("page", strings.Join(came.Get("color"), "|"), "seal-bin", "\x00\xff", "page", "2"))
			_ = grpc.SetTrailer(ctx, metadata.Pairs("weight", "none", "weight", "2"))
			return double(ctx, req)
		},
		"an error": func(ctx context.Context, _ *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
			_ = grpc.SetTrailer(ctx, metadata.Pairs("weight", "none"))
			failed, err := status.New(codes.NotFound, "not “there”").WithDetails(&arithmeticv1.SumResponse{Result: 7})
			if err != nil {
				return nil, err
			}
			return nil, failed.Err()
		},
		"a compressed answer": func(ctx context.Context, _ *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
			return &arithmeticv1.SumResponse{Result: 7}, grpc.SetSendCompressor(ctx, "gzip")
		},
		"a large answer": func(ctx context.Context, req *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
			res, err := double(ctx, req)
			res.ProtoReflect().SetUnknown(append([]byte{0xba, 0x06, 0x80, 0x10}, large...))
			return res, err
		},
	} {
		asConnect(t, name, stock(t, answer))
	}
	const one = "\x00\x00\x00\x00\x02\x08\x01"
	for name, body := range map[string]string{"a message, and an error": one, "two messages": one + one, "part of a message": one[:6]} {
		asConnect(t, name, overHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", map[bool]string{true: "5", false: "0"}[body == one])
			_, _ = io.WriteString(w, body)
		}))
	}
}

// asConnect calls an endpoint in a way that is plain, and in one that is not, and wants the same answer.
func asConnect(t *testing.T, name string, endpoint *upstream.Endpoint) {
	t.Helper()
	for mediaType, body := range map[string]string{"application/json": `{"a": 1, "b": 2}`, "application/proto": "\x08\x02\x10\x03"} {
		var got [2]string
		for i := range got {
			req := inJSON(body, "Color: red", "Color: blue", "Accept-Encoding: gzip", "User-Agent: me")
			req.Header.Set("Content-Type", mediaType)
			if i == 1 {
				req.Header.Set("Content-Encoding", "identity") // which is not plain
			}
			res, outcome, err := newBridge(t).Try(t.Context(), endpoint, req, inGRPC, true)
			if got[i] = fmt.Sprint(outcome, err); res != nil {
				raw, err := io.ReadAll(res)
				got[i] += fmt.Sprintf(" %d %d %v %v %q %v", res.StatusCode, res.ContentLength, res.Header, res.Trailer, raw, err)
			}
		}
		if got[0] != got[1] {
			t.Errorf("%s, %s:\ngot  %s\nwant %s", name, mediaType, got[0], got[1])
		}
	}
}

// textCall is a call of gRPC-Web as browsers make it that read text.
func textCall() *upstream.Request {
	const message = "\x00\x00\x00\x00\x00"
	req := inJSON(base64.StdEncoding.EncodeToString([]byte(message)), "Grpc-Timeout: 4S")
	req.Header.Set("Content-Type", "application/grpc-web-text+proto")
	return req
}

// An error is the service's, with its details. unavailable and resource_exhausted are told apart from
// others, since they may lead to another try.
func TestBridgePassesErrors(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]upstream.Kind{
		codes.NotFound: upstream.Answered, codes.Unavailable: upstream.Unavailable, codes.ResourceExhausted: upstream.Exhausted,
	} {
		endpoint := stock(t, func(context.Context, *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
			return nil, status.Error(code, "not “there”")
		})
		res, outcome, err := newBridge(t).Try(t.Context(), endpoint, inJSON("{}"), inGRPC, true)
		if err != nil || outcome.Kind != want {
			t.Fatalf("%v: got %v, %v, want %v", code, outcome, err, want)
		}
		body, _ := io.ReadAll(res)
		if res.StatusCode < 400 || !strings.Contains(string(body), "not “there”") || strings.Contains(string(body), `"internal"`) {
			t.Errorf("%v: got %d %s", code, res.StatusCode, body)
		}
	}
}

// A message that cannot be read is not sent, and its caller is told why.
func TestBridgeRefusesBadMessages(t *testing.T) {
	t.Parallel()
	endpoint := stock(t, func(context.Context, *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
		t.Error("the service was called")
		return nil, nil
	})
	bomb := inJSON(zipped(t, 16<<20), "Content-Encoding: gzip")
	res, outcome, err := newBridge(t).Try(t.Context(), endpoint, bomb, inGRPC, true)
	if res != nil || outcome.Cause != bridge.BadMessage || connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("16 MiB that are zipped: got %v, %v, want resource_exhausted, not sent", outcome, err)
	}
	for _, body := range []string{"", "[1]", `{"a": "many"}`} {
		res, outcome, err := newBridge(t).Try(t.Context(), endpoint, inJSON(body), inGRPC, true)
		if res != nil || outcome != (upstream.Outcome{Kind: upstream.Unsendable, Cause: bridge.BadMessage}) || connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%q: got %v, %v, want invalid_argument, not sent", body, outcome, err)
		}
	}
}

// zipped is so many blanks.
func zipped(tb testing.TB, n int) string {
	tb.Helper()
	var out strings.Builder
	w := gzip.NewWriter(&out)
	if _, err := io.WriteString(w, strings.Repeat(" ", n)); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.String()
}

// What goes wrong on the way to the service is told as it is without a bridge.
func TestBridgeClassifies(t *testing.T) {
	t.Parallel()
	try := func(ctx context.Context, endpoint *upstream.Endpoint, headers ...string) upstream.Outcome {
		res, outcome, err := newBridge(t).Try(ctx, endpoint, inJSON("{}", headers...), inGRPC, true)
		if res != nil || err == nil {
			t.Errorf("got a response, %v, want an error", err)
		}
		return outcome
	}
	if got := try(t.Context(), at(t, "127.0.0.1:1")); got != (upstream.Outcome{Kind: upstream.NotSent, Cause: upstream.DialRefused}) {
		t.Errorf("without a service: got %v", got)
	}
	left, leave := context.WithCancelCause(t.Context())
	if got := try(left, stock(t, func(ctx context.Context, _ *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
		leave(upstream.ErrDeadline)
		<-ctx.Done()
		return nil, ctx.Err()
	})); got.Kind != upstream.DeadlineOver {
		t.Errorf("at the deadline: got %v", got)
	}
	// What ends a call at its deadline is the context, whose cause says so, and not the header.
	late, over := context.WithCancelCause(t.Context())
	hanging := overHTTP2(t, func(http.ResponseWriter, *http.Request) {
		past, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		<-past.Done() // and so is the time in the header
		over(upstream.ErrDeadline)
		<-t.Context().Done()
	})
	if got := try(late, hanging, "Connect-Timeout-Ms: 5", "Content-Encoding: identity"); got.Kind != upstream.DeadlineOver {
		t.Errorf("past the deadline: got %v", got)
	}
	// A message, and then no status.
	broken := overHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		_, _ = io.WriteString(w, "\x00\x00\x00\x00\x00")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	if got := try(t.Context(), broken); got.Kind != upstream.Broken {
		t.Errorf("of an answer that breaks off: got %v", got)
	}
}

// overHTTP2 is an endpoint that speaks HTTP/2 alone.
func overHTTP2(tb testing.TB, handler http.HandlerFunc) *upstream.Endpoint {
	tb.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	tb.Cleanup(server.Close)
	return at(tb, server.Listener.Addr().String())
}

// What the schema does not know is left out only when nothing else helps. A type that no schema has is
// never left out.
func TestBridgeLosesNothingUnasked(t *testing.T) {
	t.Parallel()
	endpoint := stock(t, double)
	if _, outcome, err := newBridge(t).Try(t.Context(), endpoint, inJSON(`{"a": 1, "later": 2}`), inGRPC, false); outcome.Cause != bridge.LossyMessage || err == nil {
		t.Errorf("a field that the schema does not know: got %v, %v, want nothing sent", outcome, err)
	}
	res, outcome, err := newBridge(t).Try(t.Context(), endpoint, inJSON(`{"a": 1, "later": 2}`), inGRPC, true)
	if err != nil || outcome != (upstream.Outcome{}) {
		t.Fatalf("with less: got %v, %v", outcome, err)
	}
	if body, _ := io.ReadAll(res); string(body) != `{"result":1}` {
		t.Errorf("with less: got %s", body)
	}
	schemas, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	strange := bridge.Message{JSON: true, Bytes: []byte(`{"message": {"@type": "type.googleapis.com/acme.v1.Unknown"}}`), Desc: new(momv1.Answer).ProtoReflect().Descriptor()}
	if raw, err := strange.In(false, schemas, true); err == nil {
		t.Errorf("a type that no schema has became %q", raw)
	}
}

// When JSON has less than the service has answered, its schema is in doubt.
func TestBridgeDoubts(t *testing.T) {
	t.Parallel()
	schemas, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	doubts := 0
	b := tried{bridge.New(schemas, bridge.Hooks{Doubt: func(string) { doubts++ }}), schemas.Method(method)}
	for want, later := range [][]byte{nil, {0x98, 0x06, 0x01}} { // field 99
		endpoint := stock(t, func(context.Context, *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
			res := &arithmeticv1.SumResponse{Result: 3}
			res.ProtoReflect().SetUnknown(later)
			return res, nil
		})
		res, outcome, err := b.Try(t.Context(), endpoint, inJSON(`{"a": 1, "b": 2}`), inGRPC, false)
		if err != nil || outcome != (upstream.Outcome{}) {
			t.Fatalf("got %v, %v", outcome, err)
		}
		if body, _ := io.ReadAll(res); string(body) != `{"result":3}` || doubts != want {
			t.Errorf("got %s and %d doubts, want %d", body, doubts, want)
		}
	}
}

// A status of gRPC counts, whatever status of HTTP goes with it: it may say that the call has run.
func TestBridgeReadsStatus(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusGatewayTimeout, http.StatusNoContent, http.StatusBadGateway} {
		endpoint := overHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Grpc-Status", "4")
			w.Header().Set("Grpc-Message", "too late")
			w.WriteHeader(code)
		})
		res, outcome, err := newBridge(t).Try(t.Context(), endpoint, inJSON("{}"), inGRPC, true)
		if err != nil || outcome.Kind != upstream.Answered {
			t.Fatalf("HTTP %d: got %v, %v", code, outcome, err)
		}
		if body, _ := io.ReadAll(res); !strings.Contains(string(body), `"deadline_exceeded"`) || !strings.Contains(string(body), "too late") {
			t.Errorf("HTTP %d: got %s, want the status of gRPC", code, body)
		}
	}
}

// A whole answer that is none of gRPC has not broken off.
func TestBridgeCannotReadAnswer(t *testing.T) {
	t.Parallel()
	endpoint := overHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<p>Welcome")
	})
	res, outcome, err := newBridge(t).Try(t.Context(), endpoint, inJSON("{}"), inGRPC, true)
	if err != nil || outcome.Kind != upstream.Answered {
		t.Fatalf("got %v, %v, want an answer", outcome, err)
	}
	if body, _ := io.ReadAll(res); strings.Contains(string(body), `"unavailable"`) || res.StatusCode < 400 {
		t.Errorf("got %d %s, want an error that does not say that it did not run", res.StatusCode, body)
	}
}

// An answer that is larger than we read says so, and that the call has run.
func TestBridgeBoundsAnswers(t *testing.T) {
	t.Parallel()
	endpoint := stock(t, func(ctx context.Context, _ *arithmeticv1.SumRequest) (*arithmeticv1.SumResponse, error) {
		res := new(arithmeticv1.SumResponse)
		res.ProtoReflect().SetUnknown(append([]byte{0xba, 0x06, 0x80, 0x80, 0x80, 0x04}, make([]byte, 8<<20)...))
		return res, nil
	})
	res, _, err := newBridge(t).Try(t.Context(), endpoint, inJSON("{}"), inGRPC, true)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(res); !strings.Contains(string(body), "the call was executed") || res.StatusCode < 400 {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
}

// A service that does not understand this either is told from one that fails.
func TestBridgeIsNotUnderstood(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnsupportedMediaType) }))
	t.Cleanup(server.Close)
	for _, speech := range []bridge.Speech{inGRPC, {Protocol: connect.ProtocolNameConnect}, {Protocol: connect.ProtocolNameGRPCWeb}} {
		if _, outcome, err := newBridge(t).Try(t.Context(), at(t, server.Listener.Addr().String()), inJSON("{}"), speech, true); !outcome.Foreign() {
			t.Errorf("%v: got %v, %v", speech, outcome, err)
		}
	}
}

// Media types and ways of speaking are the same thing.
func TestSpeechOf(t *testing.T) {
	t.Parallel()
	for mediaType, want := range map[string]bridge.Speech{
		"application/json": {Protocol: "connect", JSON: true}, "application/proto": {Protocol: "connect"},
		"application/grpc": inGRPC, "application/grpc+proto": inGRPC, "application/grpc+json": {Protocol: "grpc", JSON: true},
		"application/connect+json": {Protocol: "connect", JSON: true, Stream: true}, "application/connect+proto": {Protocol: "connect", Stream: true},
		"application/grpc-web": {Protocol: "grpcweb"}, "application/grpc-web-text": {Protocol: "grpcweb", Text: true},
	} {
		if got, ok := bridge.SpeechOf(mediaType); !ok || got != want {
			t.Errorf("%s: got %v, %v, want %v", mediaType, got, ok, want)
		}
	}
	for _, other := range []string{"", "text/plain", "application/grpc+thrift", "application/connect+thrift"} {
		if got, ok := bridge.SpeechOf(other); ok {
			t.Errorf("%s: got %v, want none", other, got)
		}
	}
}

var errNone = errors.New("none")

// Errors that are none of RPC show their code alone.
func TestCallError(t *testing.T) {
	t.Parallel()
	if got := bridge.CallError(errNone, nil); got.GetMessage() != "" || got.GetCode() != int32(connect.CodeUnknown) {
		t.Errorf("got %v", got)
	}
}

// A schema that says of a well-known type what it is not is an error, and nothing worse.
func TestBrokenSchema(t *testing.T) {
	t.Parallel()
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{{
		Name: proto.String("google/protobuf/timestamp.proto"), Package: proto.String("google.protobuf"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Timestamp")}},
		Service:     []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Clock")}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := route.OpenSnapshot(raw)
	if err != nil {
		t.Fatal(err)
	}
	desc := schemas.Service("google.protobuf.Clock").ParentFile().Messages().ByName("Timestamp")
	for _, m := range []bridge.Message{{JSON: true, Bytes: []byte(`"2026-01-01T00:00:00Z"`), Desc: desc}, {Desc: desc}} {
		if got, err := m.In(!m.JSON, schemas, true); err == nil {
			t.Errorf("got %q, want an error", got)
		}
	}
}
