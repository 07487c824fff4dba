package logonce_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdline/internal/logonce"
)

func TestOncePerInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := logonce.New(slog.New(slog.NewTextHandler(&out, nil)))
		for range 3 {
			log.Warn("full", "limit reached", "limit", 1)
			log.Warn("other", "limit reached", "limit", 2)
		}
		if got := strings.Count(out.String(), "level=WARN"); got != 2 {
			t.Errorf("%d lines, want one for each of two keys:\n%s", got, &out)
		}
		out.Reset()
		time.Sleep(logonce.Every) // on the clock of synctest
		log.Warn("full", "limit reached", "limit", 1)
		log.Warn("full", "limit reached", "limit", 1)
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "limit=1 unlogged=2") {
			t.Errorf("after the interval: %q, want one line that tells of two more", got)
		}
	})
}
