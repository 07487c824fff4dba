// Command mutants asks the tests whether they would notice: it makes one small
// mistake at a time, as list.go has them, and expects the tests named beside it to
// fail. The tree is not touched: the go command reads each mistake through an
// overlay, go:embed'ed files included.
//
//	go run -C tools ./mutants           # all
//	go run -C tools ./mutants decide    # those whose file or text has this in it
//
// It exits with 1 when a mutant survives, does not compile, or has become
// impossible because the text that it replaces is gone or is no longer unique.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

// mutant is one mistake.
type mutant struct {
	file     string // from the root of the repository
	old, new string // old occurs once in the file
	tests    string // arguments of go test, one of which must fail
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	failed, run := 0, 0
	for _, m := range mutants {
		if len(os.Args) > 1 && !strings.Contains(m.file+" "+m.old+" "+m.new, os.Args[1]) {
			continue
		}
		verdict, ok := try(ctx, m)
		if ctx.Err() != nil {
			break
		}
		run++
		if !ok {
			failed++
		}
		fmt.Printf("%-9s %s: %s → %s\n", verdict, m.file, oneLine(m.old), oneLine(m.new))
	}
	interrupted := ctx.Err() != nil
	stop()
	fmt.Printf("%d mutants, %d not killed\n", run, failed)
	if failed > 0 || run == 0 || interrupted {
		os.Exit(1)
	}
}

// try tells what became of a mutant, and whether that is what should.
func try(ctx context.Context, m mutant) (verdict string, ok bool) {
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return err.Error(), false
	}
	defer func() { _ = os.RemoveAll(dir) }()
	overlay, err := mutate(m, dir)
	if err != nil {
		return err.Error(), false
	}
	args := append([]string{"test", "-vet=off", "-failfast", "-count=1", "-timeout=3m"}, strings.Fields(m.tests)...)
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir = ".."
	// In the environment, so that it is read by a go command of the tests, too.
	command.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+overlay)
	said, err := command.CombinedOutput()
	switch {
	case err == nil && strings.Contains(string(said), "[no tests to run]"):
		return "NO TESTS", false
	case err == nil:
		return "SURVIVED", false
	case strings.Contains(string(said), "[build failed]"), strings.Contains(string(said), "[setup failed]"):
		return "BROKEN", false // it does not compile
	}
	return "killed", true
}

// mutate writes the file with the mistake in it, and the overlay that shows it.
func mutate(m mutant, dir string) (overlay string, err error) {
	file, err := filepath.Abs(filepath.Join("..", m.file))
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(raw), m.old); n != 1 {
		return "", fmt.Errorf("OBSOLETE (%d times there)", n)
	}
	mutated := filepath.Join(dir, filepath.Base(file))
	if err := os.WriteFile(mutated, []byte(strings.Replace(string(raw), m.old, m.new, 1)), 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {file: mutated}})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, replace, 0o600)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
