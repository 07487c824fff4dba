package logbuffer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A reader that stands still stops nobody. When it goes on, it reads what there was room for, in order, and how
// many lines were dropped.
func TestReaderStandsStill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		read, write := io.Pipe()
		var b *Buffer
		b = New(write, func(lines int) { _, _ = fmt.Fprintf(b, "lost %d\n", lines) })
		if !b.Flush(0) {
			t.Error("there is nothing to be written, and that is not written")
		}
		line := strings.Repeat("x", 1<<10) + "\n"
		for range 3000 {
			if n, err := io.WriteString(b, line); n != len(line) || err != nil {
				t.Fatalf("got %d, %v", n, err)
			}
		}
		if b.Flush(time.Second) {
			t.Error("all is written, and nobody reads")
		}
		var got bytes.Buffer
		done := make(chan struct{})
		go func() { defer close(done); _, _ = io.Copy(&got, read) }()
		if !b.Flush(time.Second) {
			t.Error("somebody reads, and it is not all written")
		}
		_, _ = io.WriteString(b, "last\n")
		b.Flush(time.Second)
		_ = write.Close()
		<-done
		kept := strings.Count(got.String(), line)
		if want := fmt.Sprintf("lost %d\nlast\n", 3000-kept); kept == 0 || kept == 3000 || got.String() != strings.Repeat(line, kept)+want {
			t.Errorf("%d lines of 3000, then %q, want %q", kept, strings.ReplaceAll(got.String(), line, ""), want)
		}
	})
}

// A reader that is gone loses what it is not there for, and that is no error of who logs.
func TestReaderIsGone(t *testing.T) {
	t.Parallel()
	gone, write := io.Pipe()
	_ = gone.CloseWithError(errors.New("gone"))
	b := New(write, func(int) { t.Error("there was room for it") })
	for range 100 {
		if _, err := io.WriteString(b, "line\n"); err != nil {
			t.Error(err)
		}
	}
	if !b.Flush(time.Minute) {
		t.Error("it waits for a reader that is gone")
	}
}

// A reader who is only slow hears of lost lines while there are always more.
func TestReaderIsSlow(t *testing.T) {
	t.Parallel()
	var b *Buffer
	line, told := strings.Repeat("x", 1<<10)+"\n", 0
	writes := 0
	b = New(writerFunc(func(lines []byte) (int, error) {
		if writes++; writes > 2 && told == 0 {
			t.Error("nobody was told")
		}
		for range 2000 * max(0, 4-writes) { // more than there is room for
			_, _ = io.WriteString(b, line)
		}
		return len(lines), nil
	}), func(int) { told++ })
	_, _ = io.WriteString(b, line)
	if !b.Flush(time.Minute) || told < 3 {
		t.Errorf("told %d times, want each time that lines were lost", told)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
