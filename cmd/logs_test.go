package cmd

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/internal/upstream"
)

// Both formats say the same of ids, durations and endpoints.
func TestLogFormats(t *testing.T) {
	t.Parallel()
	pool := upstream.NewPool(upstream.Config{Service: "a.B", Endpoints: []*url.URL{{Scheme: "http", Host: "127.0.0.1:1"}}, Log: slog.New(slog.DiscardHandler)})
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

// The lines that docs/logs.md lists are those that are written.
func TestLoggedAsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, room := range []string{"../cmd", "../gateway", "../mom", "../internal"} {
		err := filepath.WalkDir(room, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			raw, err := os.ReadFile(path)
			source.Write(raw)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	row, message := regexp.MustCompile(`(?m)^\| (?:INFO|WARN|ERROR) \| ([^|]*)`), regexp.MustCompile("`([^`]*)`")
	messages := 0
	for _, cell := range row.FindAllStringSubmatch(string(page), -1) {
		for _, found := range message.FindAllStringSubmatch(cell[1], -1) {
			messages++
			if text := strings.TrimSuffix(found[1], "…"); !strings.Contains(source.String(), `"`+text) {
				t.Errorf("no line says %q", text)
			}
		}
	}
	if messages < 20 {
		t.Errorf("found %d messages, want those of the page", messages)
	}
}
