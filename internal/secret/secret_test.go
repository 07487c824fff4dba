package secret_test

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdline/internal/contract"
	"holdline/internal/secret"
)

func open(t *testing.T, text string) (*secret.Secret, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return secret.Open(name, slog.New(slog.DiscardHandler))
}

// Show uses the first line, and Take accepts each line. Blanks and empty lines around them do not matter.
func TestLines(t *testing.T) {
	t.Parallel()
	s, err := open(t, "\n  new \r\n\nold\t")
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{contract.HeaderSecret: {"a caller's"}}
	s.Show(header)
	if got := header[contract.HeaderSecret]; len(got) != 1 || got[0] != "new" {
		t.Errorf("shown %q, want the first line alone", got)
	}
	for shown, want := range map[string]bool{"new": true, "old": true, "": false, "ne": false, "new\nold": false, " " + "new": false} {
		header := http.Header{contract.HeaderSecret: {shown}}
		if got := s.Take(header); got != want || len(header) > 0 {
			t.Errorf("%q is taken: %t, want %t; then the header has %v", shown, got, want, header)
		}
	}
	for _, values := range [][]string{nil, {}, {"new", "new"}, {"wrong", "new"}} {
		if s.Take(http.Header{contract.HeaderSecret: values}) {
			t.Errorf("%q is taken", values)
		}
	}
}

// A file without a usable secret is an error. The error does not contain text of the file.
func TestNoSecret(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n \n", "hush hush", "hüsh", "hush\x00", "hush\n" + strings.Repeat("hush", 1000)} {
		if s, err := open(t, text); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v, %v, want an error without it", text, s, err)
		}
	}
	if _, err := secret.Open(filepath.Join(t.TempDir(), "none"), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file that is not there is no error")
	}
}

// A nil Secret shows nothing and accepts everybody. Take still removes the header.
func TestNone(t *testing.T) {
	t.Parallel()
	var none *secret.Secret
	header := http.Header{contract.HeaderSecret: {"any"}}
	if !none.Take(header) || len(header) > 0 {
		t.Errorf("not taken, or left in %v", header)
	}
	if none.Show(header); len(header) > 0 {
		t.Errorf("shown %v", header)
	}
}

// Random returns another secret each time.
func TestRandom(t *testing.T) {
	t.Parallel()
	header := http.Header{}
	one := secret.Random()
	one.Show(header)
	if secret.Random().Take(header.Clone()) || !one.Take(header.Clone()) {
		t.Error("two random secrets are the same, or one is not its own")
	}
}
