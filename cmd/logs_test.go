package cmd

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// docs/logs.md lists the lines that are written, from INFO on.
func TestLoggedAsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed, told []string
	row, message := regexp.MustCompile(`(?m)^\| (?:INFO|WARN|ERROR)[^|]*\| ([^|]*)`), regexp.MustCompile("`([^`]*)`")
	for _, cell := range row.FindAllStringSubmatch(string(page), -1) {
		for _, found := range message.FindAllStringSubmatch(cell[1], -1) {
			listed = append(listed, strings.TrimSuffix(found[1], "…"))
		}
	}
	for _, found := range message.FindAllStringSubmatch(string(page), -1) { // some are told of in a sentence
		told = append(told, strings.Join(strings.Fields(strings.TrimSuffix(found[1], "…")), " "))
	}
	var (
		source  strings.Builder
		written []string
	)
	for _, room := range []string{"../cmd", "../gateway", "../mom", "../internal"} {
		err := filepath.WalkDir(room, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "wiretest") {
				return err
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			source.Write(raw)
			file, err := parser.ParseFile(token.NewFileSet(), path, raw, 0)
			ast.Inspect(file, func(n ast.Node) bool {
				written = append(written, messageOf(n)...)
				return true
			})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range listed {
		if !strings.Contains(source.String(), `"`+text) {
			t.Errorf("no line says %q", text)
		}
	}
	for _, text := range written {
		if !slices.ContainsFunc(told, func(known string) bool { return strings.Contains(known, " ") && strings.HasPrefix(text, known) }) {
			t.Errorf("the page does not list %q", text)
		}
	}
	if len(listed) < 20 || len(written) < 20 {
		t.Errorf("found %d messages in the page and %d in the source, want all", len(listed), len(written))
	}
}

// messageOf is the message of a call that logs: the second text for a logonce.Logger, whose first one is a key. It has more than one word.
func messageOf(n ast.Node) []string {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains([]string{"Info", "Warn", "Error", "Log"}, method.Sel.Name) {
		return nil
	}
	if pkg, ok := method.X.(*ast.Ident); ok && pkg.Name == "http" {
		return nil
	}
	var found []string
	for _, arg := range call.Args[:min(3, len(call.Args))] {
		if text, ok := arg.(*ast.BasicLit); ok && text.Kind == token.STRING && strings.Contains(text.Value, " ") {
			found = []string{strings.Trim(text.Value, `"`)}
		}
	}
	return found
}
