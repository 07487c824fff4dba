package e2e

import (
	"net/http"
	"strings"
	"testing"

	"holdline/internal/stack"
)

// scrape reads the series as Prometheus does.
func scrape(tb testing.TB, addr string) string {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		tb.Fatal(err)
	}
	_, body := do(tb, req)
	return body
}

// What an operator is told of calls, endpoints and queues, at an address of its own.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Without: []string{"sum"}, Metrics: "127.0.0.1:0"})
	multiply := "http://" + s.Gateway + "/arithmetic.v1.MultiplicationService/Multiply"
	post(t, multiply, `{"a": 2, "b": 3}`)
	post(t, multiply, `{"a":`)
	post(t, sumURL(s), `{"a": 1, "b": 2}`, "Holdline-Mode: direct")
	res, _ := post(t, sumURL(s), `{"a": 1, "b": 2}`, "Prefer: respond-async", "Idempotency-Key: once")
	post(t, sumURL(s), `{"a": 1, "b": 2}`, "Prefer: respond-async", "Idempotency-Key: once")

	series := scrape(t, s.Metrics)
	for _, want := range []string{
		`holdline_gateway_call_duration_seconds_count{outcome="ok",service="arithmetic.v1.MultiplicationService"} 1`,
		`holdline_gateway_call_duration_seconds_count{outcome="error",service="arithmetic.v1.MultiplicationService"} 1`,
		`holdline_gateway_call_duration_seconds_count{outcome="failed",service="arithmetic.v1.SumService"} 1`,
		`holdline_gateway_call_duration_seconds_count{outcome="stored",service="arithmetic.v1.SumService"} 2`,
		`holdline_gateway_attempts_total{result="answered",service="arithmetic.v1.MultiplicationService"} 2`,
		`holdline_gateway_attempts_total{result="not_sent",service="arithmetic.v1.SumService"} 1`,
		`holdline_gateway_endpoints{service="arithmetic.v1.MultiplicationService",state="fit"} 1`,
		`holdline_gateway_endpoints{service="arithmetic.v1.SumService",state="ejected"} 1`,
		`holdline_gateway_breaker_open{service="arithmetic.v1.SumService"} 0`,
		`holdline_gateway_held_calls 0`,
		`holdline_mom_calls_total{result="stored",service="arithmetic.v1.SumService"} 1`,
		`holdline_mom_calls_total{result="attached",service="arithmetic.v1.SumService"} 1`,
		`holdline_mom_ready 1`,
		`holdline_mom_on_hold 0`,
		`holdline_mom_store_snapshots_only 0`,
		`holdline_mom_store_unsaved_changes 0`,
		`holdline_queue_tasks{service="arithmetic.v1.SumService",state="queued"} 1`,
		`holdline_queue_paused{service="arithmetic.v1.SumService"} 0`,
		`holdline_queue_oldest_wait_seconds{service="arithmetic.v1.SumService"} `,
		`go_goroutines `,
	} {
		if !strings.Contains(series, "\n"+want) {
			t.Errorf("no series %s", want)
		}
	}
	if t.Failed() {
		t.Log(series)
	}

	if req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Gateway+"/metrics", nil); err != nil {
		t.Fatal(err)
	} else if res, _ := do(t, req); res.StatusCode != http.StatusNotFound {
		t.Errorf("callers get %s from /metrics, want 404", res.Status)
	}
	post(t, "http://"+s.Gateway+"/mom.v1.TaskService/CancelTask", `{"id": "`+res.Header.Get("Holdline-Task")+`"}`)
	eventually(t, func() bool {
		return strings.Contains(scrape(t, s.Metrics), `holdline_queue_ended_tasks_total{service="arithmetic.v1.SumService",state="cancelled"} 1`)
	}, "the cancelled task is counted")
}
