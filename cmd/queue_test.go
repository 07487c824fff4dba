package cmd

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
)

// One task is not "1 tasks".
func TestQueueCounts(t *testing.T) {
	t.Parallel()
	retry := func(ctx context.Context, at Operator, out *bytes.Buffer) error {
		return (&QueueRetry{Operator: at}).Run(ctx, out)
	}
	restore := func(ctx context.Context, at Operator, out *bytes.Buffer) error {
		return (&QueueRestore{Operator: at}).Run(ctx, out)
	}
	for _, c := range []struct {
		run    func(context.Context, Operator, *bytes.Buffer) error
		answer proto.Message
		want   string
	}{
		{retry, &momv1.RetryDeadResponse{}, "0 tasks queued again\n"},
		{retry, &momv1.RetryDeadResponse{Retried: 1}, "1 task queued again\n"},
		{retry, &momv1.RetryDeadResponse{Retried: 2}, "2 tasks queued again\n"},
		{restore, &momv1.RestoreQueueResponse{Uncertain: 1}, "1 task is uncertain now: it may have run after the backup\n"},
		{restore, &momv1.RestoreQueueResponse{Uncertain: 2}, "2 tasks are uncertain now: they may have run after the backup\n"},
	} {
		raw, err := proto.Marshal(c.answer)
		if err != nil {
			t.Fatal(err)
		}
		admin := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/proto")
			_, _ = w.Write(raw)
		})
		var out bytes.Buffer
		if err := c.run(t.Context(), Operator{Admin: admin}, &out); err != nil || out.String() != c.want {
			t.Errorf("%v: got %q, %v, want %q", c.answer, out.String(), err, c.want)
		}
	}
}

// The table has no zeros for numbers that nobody knows, and says why replay waits.
func TestQueuesInATable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := printQueues(&out, &momv1.Queue{Service: "a.v1.A", Unreadable: true}, &momv1.Queue{Service: "b.v1.B", Shards: 1},
		&momv1.Queue{Service: "c.v1.C", Shards: 1, MaxRunning: 2, Refused: durationpb.New(12 * time.Second)}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if want := strings.Fields("a.v1.A - - - - - - - - - unreadable"); !slices.Equal(strings.Fields(lines[1]), want) {
		t.Errorf("got %q, want %q", lines[1], want)
	}
	if want := "2 at once, refused for 12s"; !strings.HasSuffix(lines[3], want) {
		t.Errorf("got %q, want %q", lines[3], want)
	}
	if want := strings.Fields("b.v1.B 0 0 0 0 0 0 0 0s 1 on"); !slices.Equal(strings.Fields(lines[2]), want) {
		t.Errorf("got %q, want %q", lines[2], want)
	}
}

// serve stands in for a gateway, and returns its URL.
func serve(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(answer)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}
