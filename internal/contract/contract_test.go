package contract_test

import (
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

func TestTaskID(t *testing.T) {
	t.Parallel()
	id := contract.NewTaskID("a.v1.Service", 8, "anonymous", "/a.v1.Service/M", "key")
	back, err := contract.ParseTaskID(id.String())
	if err != nil || back != id {
		t.Errorf("ParseTaskID(%s) = %v, %v", id, back, err)
	}
	twin := contract.NewTaskID("a.v1.Service", 8, "anonymous", "/a.v1.Service/M", "key")
	if twin.Shard != id.Shard || twin.ULID == id.ULID {
		t.Errorf("same key: got %s and %s, want one shard and two ULIDs", id, twin)
	}
	for _, bad := range []string{"", "a", "a.0", "a.0.x", "a.x." + id.ULID.String(), ".0." + id.ULID.String(), "a.-1." + id.ULID.String(), "a.0." + strings.Repeat("U", 26)} {
		if got, err := contract.ParseTaskID(bad); err == nil {
			t.Errorf("ParseTaskID(%q) = %v, want an error", bad, got)
		}
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key, value string
		want       time.Duration
		ok         bool
	}{
		{"Connect-Timeout-Ms", "1500", 1500 * time.Millisecond, true},
		{"Connect-Timeout-Ms", "9999999999", 9999999999 * time.Millisecond, true},
		{"Connect-Timeout-Ms", "-1", 0, false},
		{"Connect-Timeout-Ms", "soon", 0, false},
		{"Grpc-Timeout", "1500m", 1500 * time.Millisecond, true},
		{"Grpc-Timeout", "2S", 2 * time.Second, true},
		{"Grpc-Timeout", "100u", 100 * time.Microsecond, true},
		{"Grpc-Timeout", "0H", 0, true},
		{"Grpc-Timeout", "1752000H", 1752000 * time.Hour, true},
		{"Grpc-Timeout", "99999999H", 2562047 * time.Hour, true},
		{"Grpc-Timeout", "99999999M", 99999999 * time.Minute, true},
		{"Grpc-Timeout", "1", 0, false},
		{"Grpc-Timeout", "999999999S", 0, false},
		{"X", "1", 0, false},
	} {
		got, ok := contract.Timeout(http.Header{c.key: {c.value}}, c.key == "Grpc-Timeout")
		if ok != c.ok || ok && got != c.want {
			t.Errorf("Timeout(%s: %s) = %v, %v; want %v, %v", c.key, c.value, got, ok, c.want, c.ok)
		}
	}
}

func TestSetTimeout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		left          time.Duration
		grpc, connect string
	}{
		{-time.Second, "1m", "1"},
		{199*time.Millisecond + 1, "200m", "200"},
		{time.Minute, "60000m", "60000"},
		{99999999 * time.Millisecond, "99999999m", "99999999"},
		{27778 * time.Hour, "1666680M", "9999999999"},
		{100_000_001 * time.Second, "1666667M", "9999999999"},
		{2562047 * time.Hour, "2562047H", "9999999999"},
	} {
		header := http.Header{}
		contract.SetTimeout(header, true, c.left)
		contract.SetTimeout(header, false, c.left)
		if grpc, connect := header.Get("Grpc-Timeout"), header.Get("Connect-Timeout-Ms"); grpc != c.grpc || connect != c.connect {
			t.Errorf("%v: grpc-timeout %s, Connect-Timeout-Ms %s; want %s, %s", c.left, grpc, connect, c.grpc, c.connect)
		}
	}
}

// Every reason of the schema has its terms, and survives the way to the caller.
func TestReasons(t *testing.T) {
	t.Parallel()
	for number := range momv1.Reason_name {
		reason := momv1.Reason(number)
		if reason == momv1.Reason_REASON_UNSPECIFIED {
			continue
		}
		err := contract.Errorf(reason, "because")
		if err.Code() == connect.CodeUnknown && reason != momv1.Reason_REASON_OUTCOME_UNKNOWN {
			t.Errorf("%v has no code", reason)
		}
		if got := contract.ReasonOf(err); got != reason {
			t.Errorf("ReasonOf = %v, want %v", got, reason)
		}
	}
}

func TestWriteError(t *testing.T) {
	t.Parallel()
	for contentType, want := range map[string]int{
		"application/json": 404, "application/proto": 404, "": 404,
		"application/grpc": 200, "application/grpc-web+proto": 200, "application/connect+json": 200,
	} {
		r := httptest.NewRequest(http.MethodPost, "/a.B/C", nil)
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		contract.WriteError(w, r, contract.Errorf(momv1.Reason_REASON_NO_ROUTE, "none"))
		if w.Code != want {
			t.Errorf("%s: status = %d, want %d", contentType, w.Code, want)
		}
	}
}

func TestPrefer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header  string
		async   bool
		hold    time.Duration
		applied string
	}{
		{"", false, contract.DefaultHold, ""},
		{"respond-async", true, 0, "respond-async"},
		{"Respond-Async, wait=5", true, 5 * time.Second, "respond-async, wait=5"},
		{"wait=0", false, 0, "wait=0"},
		{"wait=100000", false, contract.MaxHold, "wait=300"},
		{"wait=2147483648", false, contract.MaxHold, "wait=300"},
		{"wait=99999999999999999999999", false, contract.MaxHold, "wait=300"},
		{"wait=-1", false, contract.DefaultHold, ""},
		{`x="a, respond-async, wait=1", wait=3`, false, 3 * time.Second, "wait=3"},
		{`x="\\", respond-async`, true, 0, "respond-async"},
		{"wait=5, wait=7", false, 5 * time.Second, "wait=5"},
		{`return=minimal; x="wait=3", wait="2"`, false, 2 * time.Second, "wait=2"},
		{"wait=soon", false, contract.DefaultHold, ""},
	} {
		p := contract.Prefer(http.Header{contract.HeaderPrefer: {c.header}})
		if p.Async != c.async || p.Hold() != c.hold || p.Applied() != c.applied {
			t.Errorf("Prefer(%q) = %+v: holds %v, applied %q", c.header, p, p.Hold(), p.Applied())
		}
	}
}

func TestAsks(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]contract.Asks{
		"Holdline-Ttl: 90s":            {TTL: 90 * time.Second},
		"Holdline-Ttl: 1h30m":          {TTL: 90 * time.Minute},
		"Holdline-Ttl: 99999999h":      {TTL: math.MaxInt64},
		"Holdline-Answer-Ttl:  1.5h ":  {AnswerTTL: 90 * time.Minute},
		"Holdline-Mode: direct":        {Direct: true},
		"Holdline-Mode: DIRECT":        {Direct: true},
		"Holdline-Explain: 1":          {Explain: true},
		"Holdline-Explain: 0":          {},
		"Holdline-Elsewhere: tomorrow": {},
	} {
		key, value, _ := strings.Cut(header, ":")
		if got, err := contract.AsksOf(http.Header{key: {value}}); err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", header, got, err, want)
		}
	}
	for header, values := range map[string][]string{
		"Holdline-Ttl":        {"1d", "", "5", "-5s", "1us", "-99999999h", "0"},
		"Holdline-Answer-Ttl": {"1d", "", "soon"},
		"Holdline-Mode":       {"stored", "", "direct, direct"},
		"Holdline-Explain":    {"", "yes"},
	} {
		for _, value := range values {
			if _, err := contract.AsksOf(http.Header{header: {value}}); contract.ReasonOf(err) != momv1.Reason_REASON_HEADER_INVALID || !strings.Contains(err.Message(), header) {
				t.Errorf("%s: %q: got %v, want HEADER_INVALID that names it", header, value, err)
			}
		}
		twice := http.Header{header: {"1", "1"}}
		if _, err := contract.AsksOf(twice); contract.ReasonOf(err) != momv1.Reason_REASON_HEADER_INVALID {
			t.Errorf("%v: got %v, want HEADER_INVALID", twice, err)
		}
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"k-1": "k-1", `"k-1"`: "k-1", `" "`: "!", "": "!", `""`: "!", "a b": "!", "ä": "!",
		strings.Repeat("k", 255): strings.Repeat("k", 255), strings.Repeat("k", 256): "!",
	} {
		got, err := contract.Key(http.Header{contract.HeaderKey: {raw}})
		if (err == nil) != (want != "!") || err == nil && got != want {
			t.Errorf("Key(%q) = %q, %v; want %q", raw, got, err, want)
		}
	}
	if key, err := contract.Key(http.Header{}); key != "" || err != nil {
		t.Errorf("no key: got %q, %v", key, err)
	}
}
