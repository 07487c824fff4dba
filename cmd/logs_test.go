package cmd

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// Both formats say the same of ids, durations and endpoints.
func TestLogFormats(t *testing.T) {
	t.Parallel()
	pool := upstream.NewPool("a.B", []*url.URL{{Scheme: "http", Host: "127.0.0.1:1"}}, slog.New(slog.DiscardHandler))
	defer pool.Close()
	id := contract.NewTaskID("a.B", 1, "", "", "")
	attrs := []any{"task", id, "after", 41 * time.Second, "endpoint", pool.Endpoints()[0]}

	var text, raw bytes.Buffer
	slog.New(Logs{LogFormat: "text"}.handler(&text)).Info("said", attrs...)
	for _, want := range []string{"task=" + id.String(), "after=41s", "endpoint=http://127.0.0.1:1"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("text %s lacks %s", &text, want)
		}
	}
	slog.New(Logs{LogFormat: "json"}.handler(&raw)).Info("said", attrs...)
	var line struct{ Task, After, Endpoint string }
	if err := json.Unmarshal(raw.Bytes(), &line); err != nil {
		t.Fatalf("%s: %v", &raw, err)
	}
	if line.Task != id.String() || line.After != "41s" || line.Endpoint != "http://127.0.0.1:1" {
		t.Errorf("JSON has other values: %s", &raw)
	}
}
