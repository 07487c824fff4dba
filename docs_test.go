package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"holdline/cmd"
)

// files returns the names of the repository's files that end like this.
func files(t *testing.T, end string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "bin" || len(name) > 1 && name[0] == '.'):
			return fs.SkipDir
		case !entry.IsDir() && strings.HasSuffix(name, end):
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// prose returns the lines of a page without its blocks of code, in which nothing is a link or a heading.
func prose(t *testing.T, name string) (lines []string) {
	t.Helper()
	code := false
	for line := range strings.Lines(read(t, name)) {
		if strings.HasPrefix(line, "```") {
			code = !code
		} else if !code {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// Each link from one page to another names a file that is there, and a heading of that file.
func TestLinks(t *testing.T) {
	t.Parallel()
	anchors := map[string][]string{} // by page
	for _, page := range files(t, ".md") {
		for _, line := range prose(t, page) {
			if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
				anchors[page] = append(anchors[page], anchor(heading))
			}
		}
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	checked := 0
	for page := range anchors {
		for _, line := range prose(t, page) {
			for _, found := range link.FindAllStringSubmatch(line, -1) {
				target, anchor, _ := strings.Cut(found[1], "#")
				if strings.Contains(target, "://") {
					continue // it is not ours to keep
				}
				checked++
				to := page
				if target != "" {
					to = filepath.Join(filepath.Dir(page), target)
				}
				if _, err := os.Stat(to); err != nil {
					t.Errorf("%s: %s is not there", page, found[1])
				} else if anchor != "" && !slices.Contains(anchors[to], anchor) {
					t.Errorf("%s: %s has no such heading", page, found[1])
				}
			}
		}
	}
	if checked < 50 {
		t.Errorf("%d links checked, want all", checked)
	}
}

// anchor is the name by which GitHub knows a heading.
func anchor(heading string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == ' ':
			return '-'
		case unicode.IsLetter(c), unicode.IsDigit(c), c == '-', c == '_':
			return unicode.ToLower(c)
		}
		return -1
	}, heading)
}

// The Go code in docs/clients.md is a part of an example, so it compiles.
func TestGoInPages(t *testing.T) {
	t.Parallel()
	lines := regexp.MustCompile(`(?m)^\t+`)
	example := lines.ReplaceAllString(read(t, "client/example_test.go"), "")
	blocks := regexp.MustCompile("(?s)\n```go\n(.*?)```").FindAllStringSubmatch(read(t, "docs/clients.md"), -1)
	if len(blocks) == 0 {
		t.Error("docs/clients.md has no Go")
	}
	for _, block := range blocks {
		if !strings.Contains(example, lines.ReplaceAllString(block[1], "")) {
			t.Errorf("client/example_test.go lacks\n%s", block[1])
		}
	}
}

// The commands that start a gateway or a MOM are ones that the command line takes. Tests of e2e
// run those whose output the pages show.
func TestCommandsInPages(t *testing.T) {
	var commands []string
	for _, page := range []string{"README.md", "docs/operations.md"} {
		for _, block := range regexp.MustCompile("(?s)\n```sh\n(.*?)```").FindAllStringSubmatch(read(t, page), -1) {
			for line := range strings.Lines(strings.ReplaceAll(block[1], "\\\n", "")) {
				if command, ok := strings.CutPrefix(line, "holdline "); ok {
					commands = append(commands, command)
				}
			}
		}
	}
	t.Chdir(t.TempDir())
	for _, file := range []string{"image.binpb", "mom-secret"} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range commands {
		if _, err := cmd.Parser(&holdline).Parse(strings.Fields(strings.ReplaceAll(command, "'", ""))); err != nil {
			t.Errorf("holdline %s: %v", command, err)
		}
	}
	if len(commands) < 3 {
		t.Errorf("%d commands, want those of both pages", len(commands))
	}
}

// The tests that docs/guarantees.md names are there, in the packages that it names.
func TestGuarantees(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	for _, name := range files(t, "_test.go") {
		for line := range strings.Lines(read(t, name)) {
			if rest, ok := strings.CutPrefix(line, "func Test"); ok {
				test, _, _ := strings.Cut(rest, "(")
				there[filepath.Base(filepath.Dir(name))+".Test"+test] = true
			}
		}
	}
	named := regexp.MustCompile("`(\\w+\\.Test\\w+)`").FindAllStringSubmatch(read(t, "docs/guarantees.md"), -1)
	for _, found := range named {
		if !there[found[1]] {
			t.Errorf("there is no %s", found[1])
		}
	}
	if len(named) < 30 {
		t.Errorf("%d tests are named, want those of each promise", len(named))
	}
}
