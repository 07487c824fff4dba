package reload_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdline/internal/reload"
)

// reader reads a file again, and counts.
type reader struct {
	t      *testing.T
	files  *reload.Files
	series *prometheus.Registry
	name   string
	told   chan struct{}

	mu      sync.Mutex
	times   int
	got     string
	refuses error
}

func (r *reader) read() error {
	raw, err := r.files.Read(r.name)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.times++
	r.got = string(raw)
	return errors.Join(err, r.refuses)
}

// refuse says what is wrong with the file.
func (r *reader) refuse(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuses = why
}

// write replaces the file.
func (r *reader) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.name+"~", []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(r.name+"~", r.name); err != nil {
		r.t.Fatal(err)
	}
}

// after checks what has been read some looks later.
func (r *reader) after(what string, looks time.Duration, times int, got string) {
	r.t.Helper()
	time.Sleep(looks * time.Second)
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.times != times || r.got != got {
		r.t.Errorf("%s: read %d times, last %q; want %d times, %q", what, r.times, r.got, times, got)
	}
}

// says checks a series.
func (r *reader) says(name, result string, want float64) {
	r.t.Helper()
	families, err := r.series.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() != name || result != "" && m.GetLabel()[0].GetValue() != result {
				continue
			}
			if got := m.GetGauge().GetValue() + m.GetCounter().GetValue(); got != want {
				r.t.Errorf("%s %s = %v, want %v", name, result, got, want)
			}
			return
		}
	}
	r.t.Errorf("no series %s %s", name, result)
}

// follow runs a test with a file that is read again.
func follow(t *testing.T, test func(*reader)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{t: t, series: prometheus.NewRegistry(), name: filepath.Join(dir, "file"), told: make(chan struct{})}
		r.files = reload.New(r.series, slog.New(slog.NewTextHandler(t.Output(), nil)))
		if r.files.Any() {
			t.Error("there are files before one is read")
		}
		r.write("first")
		if err := r.read(); err != nil || !r.files.Any() {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.files.Run(ctx, r.told, r.read)
		}()
		time.Sleep(time.Millisecond) // looks are not at the moments of the test
		test(r)
		cancel()
		<-done
	})
}

// A file is read again when it has changed and nobody writes any more, and whenever that is asked for.
func TestReadAgain(t *testing.T) {
	t.Parallel()
	follow(t, func(r *reader) {
		r.after("nothing has changed", 5, 1, "first")
		r.write("half")
		r.after("somebody may still write", 1, 1, "first")
		r.write("second, whole")
		r.after("somebody may still write", 1, 1, "first")
		r.after("it is whole", 1, 2, "second, whole")
		r.after("it is read once", 5, 2, "second, whole")
		r.write("second, whole")
		r.after("it was only touched", 5, 2, "second, whole")
		r.told <- struct{}{}
		r.after("somebody says so", 0, 3, "second, whole")
		r.says("holdline_reloads_total", "used", 2)
		r.says("holdline_reloads_total", "failed", 0)
		r.says("holdline_reload_failed", "", 0)
	})
}

// A file that cannot be used is read once, and again when it has changed.
func TestCannotBeUsed(t *testing.T) {
	t.Parallel()
	follow(t, func(r *reader) {
		r.refuse(errors.New("it cannot be used"))
		r.write("wrong")
		r.after("it cannot be used", 5, 2, "wrong")
		r.says("holdline_reload_failed", "", 1)
		if err := os.Remove(r.name); err != nil {
			r.t.Fatal(err)
		}
		r.after("it is gone", 5, 3, "")
		r.says("holdline_reloads_total", "failed", 2)
		r.refuse(nil)
		r.write("first")
		r.after("it is back", 5, 4, "first")
		r.says("holdline_reload_failed", "", 0)
		r.says("holdline_reloads_total", "used", 1)
	})
}

// What comes out of a pipe is there once, and stays what it was.
func TestPipeIsReadOnce(t *testing.T) {
	t.Parallel()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	_, _ = in.WriteString("routes")
	_ = in.Close()
	files := reload.New(prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	for range 2 {
		if raw, err := files.Read(fmt.Sprintf("/dev/fd/%d", out.Fd())); string(raw) != "routes" || err != nil {
			t.Errorf("got %q, %v", raw, err)
		}
	}
	if files.Any() {
		t.Error("a pipe is followed")
	}
}
