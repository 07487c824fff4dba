package outage_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdline/internal/outage"
)

// locked is a buffer for two.
type locked struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *locked) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// told runs a test of a Log in a bubble, whose clock makes its sleeps free.
func told(t *testing.T, cfg outage.Config, test func(log *outage.Log, lines func() []string)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out locked
		cfg.Began, cfg.Lasts, cfg.Back, cfg.Gone = "began", "lasts", "back", "gone"
		cfg.Counts = []string{"stored"}
		cfg.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		log := outage.New(cfg)
		ctx, stop := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer stop()
		go func() { _ = log.Run(ctx) }()
		time.Sleep(50 * time.Millisecond) // off the beat of its looks
		test(log, func() []string {
			synctest.Wait()
			return strings.Split(strings.TrimSpace(out.take()), "\n")
		})
	})
}

func want(t *testing.T, got []string, lines ...string) {
	t.Helper()
	if len(got) != len(lines) {
		t.Errorf("got %d lines, want %d:\n%s", len(got), len(lines), strings.Join(got, "\n"))
		return
	}
	for i, line := range lines {
		if got[i] != line {
			t.Errorf("got  %s\nwant %s", got[i], line)
		}
	}
}

// One outage: its first call, a line each 30 s, and its end.
func TestOutage(t *testing.T) {
	facts := func(string) []any { return []any{"held", 3} }
	told(t, outage.Config{Facts: facts}, func(log *outage.Log, lines func() []string) {
		for i := range 410 {
			if i < 5 {
				log.Down("a.B", "tls", errors.New("expired"))
			} else {
				log.Down("a.B", outage.BreakerOpen, nil) // it tells nothing new
			}
			log.Count("a.B", "stored")
			time.Sleep(100 * time.Millisecond)
		}
		want(t, lines(), `level=WARN msg=began service=a.B cause=tls error=expired`,
			`level=WARN msg=lasts service=a.B cause=tls for=31s stored=310 held=3 error=expired`)
		log.Up("a.B", time.Now().Add(-time.Second)) // it was sent before
		log.Up("other.B", time.Now())
		time.Sleep(5 * time.Second)
		want(t, lines(), "")
		log.Up("a.B", time.Now())
		time.Sleep(2 * time.Second)
		want(t, lines(), `level=INFO msg=back service=a.B after=46s stored=410`)
		time.Sleep(time.Hour)
		want(t, lines(), "")
	})
}

// A service that fails now and then has no more lines than one that is down, and one
// that is down for good is told of though it was back a moment ago.
func TestOutagesComeAndGo(t *testing.T) {
	told(t, outage.Config{}, func(log *outage.Log, lines func() []string) {
		for range 8 {
			log.Down("a.B", "reset", nil)
			time.Sleep(time.Millisecond)
			log.Up("a.B", time.Now())
			time.Sleep(3 * time.Second)
		}
		want(t, lines(), `level=WARN msg=began service=a.B cause=reset`, `level=INFO msg=back service=a.B after=1ms stored=0`)
		for range 400 {
			log.Down("a.B", "dial-refused", nil)
			time.Sleep(100 * time.Millisecond)
		}
		want(t, lines(), `level=WARN msg=lasts service=a.B cause=dial-refused for=31s stored=0`)
	})
}

// An outage ends too when nobody hears of it any more, and not before what State says.
func TestOutageIsHeardOfNoMore(t *testing.T) {
	var down atomic.Bool
	var up atomic.Int64
	state := func(string) outage.State { return outage.State{Down: down.Load(), Up: time.Unix(0, up.Load())} }
	told(t, outage.Config{State: state}, func(log *outage.Log, lines func() []string) {
		log.Down("a.B", "reset", nil)
		time.Sleep(outage.Every - 2*time.Second)
		want(t, lines(), `level=WARN msg=began service=a.B cause=reset`)
		time.Sleep(3 * time.Second)
		want(t, lines(), `level=INFO msg=gone service=a.B after=0s stored=0`)

		down.Store(true)
		time.Sleep(time.Minute)
		log.Down("a.B", "reset", nil)
		time.Sleep(outage.Every + 10*time.Second)
		want(t, lines(), `level=WARN msg=began service=a.B cause=reset`, `level=WARN msg=lasts service=a.B cause=reset for=31s stored=0`)
		down.Store(false)
		up.Store(time.Now().UnixNano())
		time.Sleep(3 * time.Second)
		if got := lines(); len(got) != 1 || !strings.Contains(got[0], "msg=back service=a.B") {
			t.Errorf("got %q, want that the service is back", got)
		}
	})
}

// Hundreds of services share the lines of a few.
func TestManyOutages(t *testing.T) {
	told(t, outage.Config{}, func(log *outage.Log, lines func() []string) {
		for range 62 {
			for i := range 300 {
				service := fmt.Sprintf("s%d.B", i)
				log.Down(service, "dns", nil)
				log.Count(service, "stored")
			}
			time.Sleep(time.Second)
		}
		got := lines()
		if began := strings.Count(strings.Join(got, "\n"), "began"); began != 300 || len(got) != 300+2*11 {
			t.Errorf("got %d lines, %d of beginnings, want 322 with 300", len(got), began)
		}
		if last := got[len(got)-1]; !strings.Contains(last, "msg=lasts more_services=290 stored=") {
			t.Errorf("last line: %s", last)
		}
	})
}
