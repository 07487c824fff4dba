package e2e

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"holdline/internal/redistest"
	"holdline/internal/stack"
)

// A system without calls leaves its Redis alone: in ten seconds a dozen commands at most, those inside
// scripts and pings counted. Where the machine is so busy that a command waits, the store is looked at anew,
// so the system has three times ten seconds to show it.
func TestIdleRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.New(t)
	s := up(t, stack.Config{Redis: redis.URL()})
	if res, body := post(t, sumURL(s), `{"a": 1, "b": 2}`, "Idempotency-Key: one"); res.StatusCode != http.StatusOK {
		t.Fatalf("a task: got %d %s", res.StatusCode, body)
	}

	conn, err := net.Dial("unix", strings.TrimPrefix(redis.URL(), "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	during := func(d time.Duration) (commands []string) {
		_ = conn.SetReadDeadline(time.Now().Add(d))
		for {
			line, err := lines.ReadString('\n')
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				return commands
			case err != nil:
				t.Fatal(err)
			}
			commands = append(commands, strings.TrimSpace(line))
		}
	}
	during(6 * time.Second) // what that task leads to
	for range 3 {
		commands := during(10 * time.Second)
		if len(commands) <= 12 {
			return
		}
		t.Logf("%d commands:\n%s", len(commands), strings.Join(commands, "\n"))
	}
	t.Error("want 12 commands at most")
}
