package contract_test

import (
	"os"
	"regexp"
	"testing"

	"holdline/internal/contract"
)

// Every name of a header has one line in the table, and every line a text.
func TestHeaders(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("headers.go")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	for _, h := range contract.Headers {
		rows[h.Name]++
		if h.Doc == "" || !contract.SentBy(h.From, h.Name) {
			t.Errorf("%s: no text, or not sent by its sender", h.Name)
		}
	}
	names := regexp.MustCompile(`(?m)^\tHeader\w+ += "([\w-]+)"$`).FindAllSubmatch(source, -1)
	for _, name := range names {
		if rows[string(name[1])] != 1 {
			t.Errorf("%s: %d lines in the table, want one", name[1], rows[string(name[1])])
		}
	}
	if len(names) != len(contract.Headers) {
		t.Errorf("%d names, %d lines in the table", len(names), len(contract.Headers))
	}
}
