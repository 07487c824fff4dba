package e2e

import (
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/dynamicpb"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/redistest"
	"holdline/internal/stack"
)

// A header of the contract that cannot be understood is refused at any time, and one that can be is heeded: a
// caller does not learn on the day of an outage what it has asked for.
func TestHeadersInAllWeather(t *testing.T) {
	t.Parallel()
	place := freeport.Addr(t)
	with := func(name, place string) *stack.Stack {
		return up(t, stack.Config{
			Redis: redistest.Start(t), RedisPrefix: t.Name() + name, Without: []string{"sum", "subtraction", "multiplication"},
			Schemas: []string{ledgerImage(t)}, Routes: []string{ledgerService + "=http://" + place},
		})
	}
	fair, foul := with("fair:", place), with("foul:", freeport.Addr(t))
	run(t, (&ledger{}).serve(t, place))
	for _, header := range []string{
		"Holdline-Ttl: 1d", "Holdline-Ttl: ", "Holdline-Ttl: -5s", "Holdline-Ttl: 5",
		"Holdline-Answer-Ttl: soon", "Holdline-Answer-Ttl: ",
		"Holdline-Mode: stored", "Holdline-Mode: ", "Holdline-Explain: maybe",
		"Idempotency-Key: a b", `Idempotency-Key: ""`,
	} {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			for _, s := range []*stack.Stack{fair, foul} {
				for _, w := range wires() {
					req := amounts(t, 1)
					key, _, _ := strings.Cut(header, ":")
					ctx, _ := withHeaders(t.Context(), header)
					err := w.client(t, s.Gateway).CallUnary(ctx, ledgerSpec("Read"), req, dynamicpb.NewMessage(req.Descriptor()))
					if contract.ReasonOf(err) != momv1.Reason_REASON_HEADER_INVALID || connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), key) {
						t.Errorf("%s, up %v: got %v, want HEADER_INVALID that names the header", w.name, s == fair, err)
					}
				}
			}
		})
	}
	post := func(s *stack.Stack, method string, headers ...string) (*http.Response, string) {
		return postEntry(t, s, method, "json", []byte(`{"amount": "1"}`), headers...)
	}
	for _, s := range []*stack.Stack{fair, foul} {
		for _, timeout := range []string{"soon", "-1", "12345678901"} {
			if res, body := post(s, "Read", "Connect-Timeout-Ms: "+timeout); res.StatusCode != http.StatusBadRequest || reasonIn(t, body) != "HEADER_INVALID" {
				t.Errorf("deadline %q, up %v: got %d %s, want 400 HEADER_INVALID", timeout, s == fair, res.StatusCode, body)
			}
		}
		for _, method := range []string{"Watch", "Unknown"} { // never stored
			if res, body := post(s, method, "Holdline-Ttl: 1d"); res.StatusCode != http.StatusBadRequest || reasonIn(t, body) != "HEADER_INVALID" {
				t.Errorf("%s, up %v: got %d %s, want 400 HEADER_INVALID", method, s == fair, res.StatusCode, body)
			}
			if _, body := post(s, method, "Idempotency-Key: a b"); strings.Contains(body, contract.HeaderKey) {
				t.Errorf("%s, up %v: got %s, want the key passed on", method, s == fair, body)
			}
		}
	}

	// Those that are understood.
	if res, body := post(foul, "Post", "Holdline-Mode: DIRECT", "Prefer: wait=0"); res.StatusCode != http.StatusServiceUnavailable || reasonIn(t, body) != "SERVICE_UNAVAILABLE" {
		t.Errorf("direct in capitals: got %d %s, want 503 SERVICE_UNAVAILABLE", res.StatusCode, body)
	}
	res, body := post(foul, "Post", "Prefer: respond-async, wait=0", "Holdline-Ttl: 9999999h")
	if id := res.Header.Get(contract.HeaderTask); res.StatusCode != http.StatusAccepted {
		t.Errorf("a long life: got %d %s, want 202", res.StatusCode, body)
	} else if task := awaitState(t, foul.Gateway, id, momv1.TaskState_TASK_STATE_QUEUED); task.GetExpireTime().AsTime().Sub(task.GetCreateTime().AsTime()).Hours() != 24 {
		t.Errorf("a long life ends at %v, want after 24 h", task.GetExpireTime().AsTime())
	}
	if res, body := post(fair, "Post", "Prefer: wait=9999999999", "Idempotency-Key: k"); res.StatusCode != http.StatusOK || res.Header.Get(contract.HeaderApplied) != "wait=300" {
		t.Errorf("a long hold: got %d %s with %v, want 200 and wait=300", res.StatusCode, body, res.Header)
	}
}
