package e2e

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	arithmeticv1 "holdline/gen/arithmetic/v1"
	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/stack"
)

// reasonIn reads the reason out of a Connect error; empty when it has none.
func reasonIn(tb testing.TB, body string) string {
	tb.Helper()
	var rpcErr struct {
		Details []struct{ Type, Value string }
	}
	if err := json.Unmarshal([]byte(body), &rpcErr); err != nil {
		tb.Fatalf("%s is no Connect error: %v", body, err)
	}
	for _, d := range rpcErr.Details {
		raw, err := base64.RawStdEncoding.DecodeString(d.Value)
		if err != nil {
			tb.Fatalf("detail %s: %v", d.Type, err)
		}
		var info errdetails.ErrorInfo
		if d.Type == "google.rpc.ErrorInfo" {
			if err := proto.Unmarshal(raw, &info); err != nil {
				tb.Fatalf("detail %s: %v", d.Type, err)
			}
			return info.GetReason()
		}
	}
	return ""
}

// postHTTP2 is post over HTTP/2, where a server can answer before it has read the
// whole body.
func postHTTP2(tb testing.TB, url, body string, headers ...string) (*http.Response, string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		req.Header.Set(key, value)
	}
	res, err := (&http.Client{Transport: wire{http2: true}.transport(tb)}).Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return res, string(raw)
}

// What cannot be stored is refused, and no trace of it is kept.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		headers    []string
		status     int
		reason     momv1.Reason
	}{
		{"malformed", `{"a":`, []string{"Prefer: respond-async"}, 400, 0},
		{"wrong type", `{"a": "one"}`, []string{"Prefer: respond-async"}, 400, 0},
		{"malformed with a key", `{"a":`, []string{"Idempotency-Key: k"}, 400, 0},
		{"malformed, service down", `{"a":`, nil, 400, 0},
		{"ttl", `{}`, []string{"Prefer: respond-async", "Holdline-Ttl: soon"}, 400, momv1.Reason_REASON_HEADER_INVALID},
		{"ttl, service down", `{}`, []string{"Holdline-Ttl: -5s"}, 400, momv1.Reason_REASON_HEADER_INVALID},
		{"answer ttl", `{}`, []string{"Prefer: respond-async", "Holdline-Answer-Ttl: 5"}, 400, momv1.Reason_REASON_HEADER_INVALID},
		{"long key", `{}`, []string{"Idempotency-Key: " + strings.Repeat("k", 256)}, 400, momv1.Reason_REASON_HEADER_INVALID},
		{"key with spaces", `{}`, []string{"Idempotency-Key: a b"}, 400, momv1.Reason_REASON_HEADER_INVALID},
		{"empty key", `{}`, []string{`Idempotency-Key: ""`}, 400, momv1.Reason_REASON_HEADER_INVALID},
		{"large", `{"a": 1}` + strings.Repeat(" ", 1<<20), []string{"Idempotency-Key: k"}, 413, momv1.Reason_REASON_REQUEST_TOO_LARGE},
		{"large, async", `{"a": 1}` + strings.Repeat(" ", 1<<20), []string{"Prefer: respond-async"}, 413, momv1.Reason_REASON_REQUEST_TOO_LARGE},
		{"large, service down", `{"a": 1}` + strings.Repeat(" ", 1<<20), nil, 503, momv1.Reason_REASON_SERVICE_UNAVAILABLE},
		{"direct", `{}`, []string{"Holdline-Mode: direct"}, 503, momv1.Reason_REASON_SERVICE_UNAVAILABLE},
		{"direct, async", `{}`, []string{"Holdline-Mode: direct", "Prefer: respond-async"}, 503, momv1.Reason_REASON_SERVICE_UNAVAILABLE},
		{"direct, key", `{}`, []string{"Holdline-Mode: direct", "Idempotency-Key: k"}, 503, momv1.Reason_REASON_SERVICE_UNAVAILABLE},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := up(t, stack.Config{Without: []string{"sum"}})
			res, body := postHTTP2(t, sumURL(s), c.body, c.headers...)
			if res.StatusCode != c.status {
				t.Errorf("got %d %s, want %d", res.StatusCode, body, c.status)
			}
			if got := reasonIn(t, body); got != "" && got != contract.Name(c.reason) || got == "" && c.reason != 0 {
				t.Errorf("reason = %q (%s), want %v", got, body, c.reason)
			}
			list, err := everybodysTasks(t, s.Gateway).ListTasks(t.Context(), &momv1.ListTasksRequest{})
			if err != nil || len(list.GetTasks()) != 0 {
				t.Errorf("tasks = %v, %v, want none", list.GetTasks(), err)
			}
		})
	}
}

// The longest key there may be, with and without quotes, names one task; another
// request under it is refused, on every wire.
func TestKeyReused(t *testing.T) {
	t.Parallel()
	s := journey(t)
	key := strings.Repeat("k", 255)
	first, body := post(t, sumURL(s), `{"a": 1, "b": 2}`, "Idempotency-Key: "+key)
	if first.StatusCode != http.StatusOK || body != `{"result":3}` {
		t.Fatalf("got %d %s, want 3", first.StatusCode, body)
	}
	// The same request, in other words.
	again, body := post(t, sumURL(s), `{ "b": 2.0, "a": 1e0 }`, `Idempotency-Key: "`+key+`"`)
	if again.StatusCode != http.StatusOK || body != `{"result":3}` || again.Header.Get(contract.HeaderReplayed) != "true" ||
		again.Header.Get(contract.HeaderTask) != first.Header.Get(contract.HeaderTask) {
		t.Errorf("got %d %s %v, want the first answer again", again.StatusCode, body, again.Header)
	}
	res, body := post(t, sumURL(s), `{"a": 2, "b": 2}`, "Idempotency-Key: "+key)
	if res.StatusCode != http.StatusUnprocessableEntity || reasonIn(t, body) != "IDEMPOTENCY_KEY_REUSED" {
		t.Errorf("another request: got %d %s, want 422 IDEMPOTENCY_KEY_REUSED", res.StatusCode, body)
	}
	for _, w := range wires() {
		ctx, _ := withHeaders(t.Context(), "Idempotency-Key: "+key)
		_, err := w.sum(ctx, t, s, 3, 3)
		if got := contract.ReasonOf(err); got != momv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED {
			t.Errorf("%s: another request: %v, want IDEMPOTENCY_KEY_REUSED", w.name, err)
		}
	}
	// Keys are a method's own.
	ctx, _ := withHeaders(t.Context(), "Idempotency-Key: "+key)
	product, err := arithmeticv1connect.NewMultiplicationServiceClient(wire{http2: true}.client(t, s.Gateway)).
		Multiply(ctx, &arithmeticv1.MultiplyRequest{A: 3, B: 2})
	if err != nil || product.GetResult() != 6 {
		t.Errorf("the key with another method: %v, %v, want 6", product, err)
	}
}
