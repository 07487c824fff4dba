package mom

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Whoever runs the queues is told before parked tasks are given up, and when they
// were, but not at each look.
func TestAlarm(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a := alarm{log: slog.New(slog.NewTextHandler(&log, nil))}
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, step := range []struct {
		after  time.Duration
		reaped Reaped
		want   string // in the log; empty for none
	}{
		{0, Reaped{Parked: Parked{Share: 0.79}}, ""},
		{0, Reaped{Parked: Parked{Share: 0.8, Oldest: time.Hour, Bytes: 7}}, "will soon be given up: retry or dismiss them\" oldest=1h0m0s bytes=7 used=0.8"},
		{time.Minute, Reaped{Parked: Parked{Share: 0.9}}, ""},
		{time.Minute, Reaped{GivenUp: 2, Parked: Parked{Share: 0.9}}, "tasks given up: nobody came in time, or their calls took too much room\" tasks=2"},
		{time.Minute, Reaped{GivenUp: 3}, ""},
		{time.Hour, Reaped{GivenUp: 4}, "tasks=7"},
		{time.Hour, Reaped{Parked: Parked{Share: 1}}, "used=1"},
		{time.Hour, Reaped{}, ""},
	} {
		now = now.Add(step.after)
		log.Reset()
		a.look(now, step.reaped)
		if got := log.String(); (got == "") != (step.want == "") || !strings.Contains(got, step.want) {
			t.Errorf("%+v: logged %q, want %q", step.reaped, got, step.want)
		}
	}
}
