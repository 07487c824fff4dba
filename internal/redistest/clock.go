package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// Clock is the time of day of a server. It stands still until a test calls Set or Run.
type Clock struct {
	set  func(time.Time) error
	file string // what libfaketime reads
}

// Set sets the clock to t, exact to the microsecond. The server's next command sees it.
func (c *Clock) Set(tb testing.TB, t time.Time) {
	tb.Helper()
	if err := c.set(t); err != nil {
		tb.Fatalf("set the clock of redis: %v", err)
	}
}

// Run makes the clock go on as the real clock does, but ahead of it, or behind it if ahead is negative. It is
// for servers of NewClocked and NewShifted.
func (c *Clock) Run(tb testing.TB, ahead time.Duration) {
	tb.Helper()
	if err := c.write(fmt.Appendf(nil, "%+.6f", ahead.Seconds())); err != nil {
		tb.Fatalf("set the clock of redis: %v", err)
	}
}

// write replaces the file in one step, because the server may read it at any moment.
func (c *Clock) write(next []byte) error {
	if err := os.WriteFile(c.file+".next", next, 0o600); err != nil {
		return err
	}
	return os.Rename(c.file+".next", c.file)
}

// NewClocked starts a server for one test, with a clock that the test sets. If libfaketime is missing, the
// test is skipped.
func NewClocked(tb testing.TB, start time.Time, options ...string) (*Server, *Clock) {
	tb.Helper()
	clock, env := fakeClock(tb, start)
	s := startFor(tb, env, append([]string{"--enable-debug-command", "local"}, options...))
	s.expireLazily(tb)
	return s, clock
}

// expireLazily has the server remove a key only when it is asked for: at one time in all releases. What Redis removes by itself, between two
// commands, has gone a millisecond sooner since Redis 8.
func (s *Server) expireLazily(tb testing.TB) {
	tb.Helper()
	s.Ask(tb, "DEBUG", "SET-ACTIVE-EXPIRE", "0")
}

// NewShifted starts a server for one test. Its clock runs, and the test can move it forward or back with Run.
// If libfaketime is missing, the clock is nil.
func NewShifted(tb testing.TB, options ...string) (*Server, *Clock) {
	tb.Helper()
	library := libfaketime()
	if library == "" {
		return startFor(tb, nil, options), nil
	}
	clock := &Clock{file: filepath.Join(tb.TempDir(), "clock")}
	clock.Run(tb, 0)
	// libfaketime then reads the file once a second. To read it at each look at the clock costs more time.
	return startFor(tb, append(fakeEnv(library, clock.file), "FAKETIME_CACHE_DURATION=1"), options), clock
}

// libfaketime is the library's path; empty if it is missing.
func libfaketime() string {
	libraries, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if len(libraries) == 0 {
		return ""
	}
	return libraries[0]
}

// fakeEnv is the environment of a server whose clock is in a file.
func fakeEnv(library, file string) []string {
	return []string{
		// libc's malloc must come before jemalloc's, which asks for the time before libfaketime can tell it.
		"LD_PRELOAD=" + library + ":libc.so.6", "DONT_FAKE_MONOTONIC=1", "FAKETIME_TIMESTAMP_FILE=" + file,
	}
}

// fakeClock makes a clock, and the environment of the servers that use it.
func fakeClock(tb testing.TB, start time.Time) (clock *Clock, env []string) {
	tb.Helper()
	library := libfaketime()
	if library == "" {
		tb.Skip("a redis-server whose clock can be set needs libfaketime (Debian, Ubuntu: apt-get install libfaketime)")
	}
	file := filepath.Join(tb.TempDir(), "clock")
	clock = &Clock{file: file}
	clock.set = func(t time.Time) error {
		// libfaketime's floating point could round t down. Half a microsecond more prevents that.
		t = t.Truncate(time.Microsecond).Add(500 * time.Nanosecond)
		defer func() { <-time.After(1200 * time.Microsecond) }() // Valkey 9 looks at the clock once a millisecond
		return clock.write(fmt.Appendf(nil, "%d.%09d", t.Unix(), t.Nanosecond()))
	}
	clock.Set(tb, start)
	return clock, append(fakeEnv(library, file), "FAKETIME_FMT=%s", "FAKETIME_NO_CACHE=1")
}

// MiniClocked is Mini with a clock that the test sets.
func MiniClocked(tb testing.TB, start time.Time) (url string, clock *Clock) {
	tb.Helper()
	m := miniredis.NewMiniRedis()
	m.SetTime(start)
	url = serve(tb, m)
	return url, &Clock{set: func(t time.Time) error { m.SetTime(t); return nil }}
}

func serve(tb testing.TB, m *miniredis.Miniredis) (url string) {
	tb.Helper()
	m.ClockTTL(true)
	if err := m.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.Close)
	return "redis://" + m.Addr()
}
