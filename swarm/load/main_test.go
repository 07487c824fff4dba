package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdline/internal/redistest"
	"holdline/internal/stack"
	"holdline/services"
)

// The load calls while a service is away and when it is back, and misses no answer; its report says
// what was done, and how many of the calls in that time were accepted.
func TestLoad(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := stack.New(stack.Config{
		Listen: "127.0.0.1:0", Port: func(string, string) string { return "0" },
		Without: []string{"sum"}, Redis: redistest.New(t).URL(), Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var parts errgroup.Group
	defer func() {
		stop()
		if err := parts.Wait(); err != nil {
			t.Error(err)
		}
	}()
	parts.Go(func() error { return s.Run(ctx) })

	var report bytes.Buffer
	b := newBook(&report)
	in, say := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(s.Gateway, in, b) }()
	doing := func(what string, enough func(counts) bool) {
		t.Helper()
		_, _ = fmt.Fprintf(say, "begin - - %s\n", what)
		await(t, what, func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.name == what && enough(b.now)
		})
		_, _ = fmt.Fprintln(say, "end as it should")
	}
	doing("sum is away", func(c counts) bool { return c.calls >= 50 && c.accepted >= 10 })
	svc, _ := services.Find("sum")
	sum, err := stack.NewService(svc, s.Service["sum"], log)
	if err != nil {
		t.Fatal(err)
	}
	parts.Go(func() error { return sum.Run(ctx) })
	doing("sum is back", func(c counts) bool { return c.calls >= 100 })
	_ = say.Close()
	if err := <-ended; err != nil {
		t.Errorf("load: %v", err)
	}
	for _, row := range []string{"| sum is away | as it should | ", "| sum is back | as it should | ", " accepted to be answered later"} {
		if !strings.Contains(report.String(), row) {
			t.Errorf("report: got %s, want %q in it", report.String(), row)
		}
	}
}

// What nobody can have said is refused.
func TestLoadRefusesNonsense(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"begin 0 0", "stop"} {
		if err := run("127.0.0.1:0", strings.NewReader(line+"\n"), newBook(io.Discard)); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%q: got %v, want what is wanted", line, err)
		}
	}
}

// More failures than may be, and an answer that did not come, end in an error.
func TestBookTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := newBook(io.Discard)
	if err := b.begin("0 - a kill"); err != nil {
		t.Fatal(err)
	}
	b.again("sum", "refused", context.DeadlineExceeded)
	b.again("sum", "broken", context.DeadlineExceeded)
	b.done(time.Now(), "handle", true)
	b.end("at once")
	err := b.close()
	for _, want := range []string{"a kill: 1 calls failed, of at most 0", "1 accepted calls have no answer"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func await(tb testing.TB, what string, so func() bool) {
	tb.Helper()
	deadline, tick := time.After(time.Minute), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("not within a minute: %s", what)
		}
	}
}
