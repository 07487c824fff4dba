package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	momv1 "holdline/gen/mom/v1"
)

// Queue is `holdline queue`, for operators.
type Queue struct {
	List    QueueList    `cmd:"" help:"List the queues."`
	Pause   QueuePause   `cmd:"" help:"Stop the replay of the tasks of a service. Its calls are still stored."`
	Resume  QueueResume  `cmd:"" help:"Start the replay of the tasks of a service again."`
	Limit   QueueLimit   `cmd:"" help:"Limit how fast all MOMs together replay the tasks of a service. The flags replace both limits: a flag that is not given, or is 0, lifts its limit."`
	Shards  QueueShards  `cmd:"" help:"Change the number of shards of a queue, while it is in use."`
	Retry   QueueRetry   `cmd:"" help:"Put all dead tasks of a service into its queue again."`
	Restore QueueRestore `cmd:"" help:"Use this after Redis was restored from a backup. Each task that may have run since the backup, and may not run twice, becomes uncertain."`
	Top     QueueTop     `cmd:"" help:"Show the queues again and again, until you end the command."`
}

func printQueues(out io.Writer, queues ...*momv1.Queue) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SERVICE\tQUEUED\tRUNNING\tRETRYING\tDEAD\tUNCERTAIN\tBYTES\tPARKED\tOLDEST\tSHARDS\tREPLAY")
	for _, q := range queues {
		if q.GetUnreadable() { // nothing is known of it
			_, _ = fmt.Fprintln(table, q.GetService()+strings.Repeat("\t-", 9)+"\t"+replayOf(q))
			continue
		}
		_, _ = fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", q.GetService(), q.GetQueued(), q.GetRunning(),
			q.GetRetrying(), q.GetDead()-q.GetUncertain(), q.GetUncertain(), q.GetBytes(), q.GetParkedBytes(), q.GetOldestWait().AsDuration().Round(time.Second), shardsOf(q), replayOf(q))
	}
	return table.Flush()
}

// counted writes a number with what it counts.
func counted[N int32 | int64](n N, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// shardsOf says how many shards get new tasks, and how many older ones still have tasks.
func shardsOf(q *momv1.Queue) string {
	if old := q.GetOldShards(); old > 0 {
		return fmt.Sprintf("%d (%d old)", q.GetShards(), old)
	}
	return strconv.Itoa(int(q.GetShards()))
}

// replayOf says whether the tasks of a queue are replayed, and within which limits.
func replayOf(q *momv1.Queue) string {
	var limits []string
	if n := q.GetMaxRunning(); n > 0 {
		limits = append(limits, fmt.Sprintf("%d at once", n))
	}
	if rate := q.GetMaxPerSecond(); rate > 0 {
		limits = append(limits, fmt.Sprintf("%.3g/s", rate))
	}
	switch {
	case q.GetUnreadable():
		return "unreadable"
	case q.GetNoRoute():
		return "no route"
	case q.GetOnHold():
		return "on hold"
	case q.GetPaused():
		return "paused"
	case q.GetRefused() != nil:
		limits = append(limits, fmt.Sprintf("refused for %s", max(q.GetRefused().AsDuration().Round(time.Second), time.Second)))
	case limits == nil:
		return "on"
	}
	return strings.Join(limits, ", ")
}

// QueueList is `holdline queue list`.
type QueueList struct {
	Operator
}

// Run prints a table.
func (c *QueueList) Run(ctx context.Context, out io.Writer) error {
	res, err := c.queues().ListQueues(ctx, &momv1.ListQueuesRequest{})
	if err != nil {
		return c.fail(err)
	}
	if c.JSON {
		return printJSON(out, res)
	}
	return printQueues(out, res.GetQueues()...)
}

// QueuePause is `holdline queue pause`.
type QueuePause struct {
	Service string `arg:"" help:"The service, such as arithmetic.v1.SumService."`
	Operator
}

// Run pauses and shows the queue.
func (c *QueuePause) Run(ctx context.Context, out io.Writer) error {
	res, err := c.queues().PauseQueue(ctx, &momv1.PauseQueueRequest{Service: c.Service})
	return c.show(out, res.GetQueue(), err)
}

// QueueResume is `holdline queue resume`.
type QueueResume struct {
	Service string `arg:"" help:"The service, such as arithmetic.v1.SumService."`
	Operator
}

// Run resumes and shows the queue.
func (c *QueueResume) Run(ctx context.Context, out io.Writer) error {
	res, err := c.queues().ResumeQueue(ctx, &momv1.ResumeQueueRequest{Service: c.Service})
	return c.show(out, res.GetQueue(), err)
}

// QueueLimit is `holdline queue limit`.
type QueueLimit struct {
	Service   string  `arg:"" help:"The service, such as arithmetic.v1.SumService."`
	Running   int64   `env:"-" placeholder:"N" help:"Maximum number of tasks under way at the same time. The shards share it, and each may have one. 0 lifts this limit."`
	PerSecond float64 `env:"-" placeholder:"N" help:"Maximum number of tasks sent in any second, from ${min_rate} to ${max_rate}. 0.5 means one task in two seconds. 0 lifts this limit."`
	Operator
}

// Run limits and shows the queue.
func (c *QueueLimit) Run(ctx context.Context, out io.Writer) error {
	res, err := c.queues().LimitQueue(ctx, &momv1.LimitQueueRequest{Service: c.Service, MaxRunning: c.Running, MaxPerSecond: c.PerSecond})
	return c.show(out, res.GetQueue(), err)
}

// QueueShards is `holdline queue shards`.
type QueueShards struct {
	Service string `arg:"" help:"The service, such as arithmetic.v1.SumService."`
	Shards  int32  `arg:"" help:"The new number of shards, from 1 to ${max_shards}. Tasks that wait stay where they are, and are replayed from there."`
	Operator
}

// Run changes the number and shows the queue.
func (c *QueueShards) Run(ctx context.Context, out io.Writer) error {
	res, err := c.queues().SetShards(ctx, &momv1.SetShardsRequest{Service: c.Service, Shards: c.Shards})
	return c.show(out, res.GetQueue(), err)
}

// QueueRetry is `holdline queue retry`.
type QueueRetry struct {
	Service   string `arg:"" help:"The service, such as arithmetic.v1.SumService."`
	Uncertain bool   `env:"-" help:"Retry the uncertain tasks too, which may have run already."`
	Operator
}

// Run prints how many tasks were queued again.
func (c *QueueRetry) Run(ctx context.Context, out io.Writer) error {
	res, err := c.queues().RetryDead(ctx, &momv1.RetryDeadRequest{Service: c.Service, Uncertain: c.Uncertain})
	if err != nil {
		return c.fail(err)
	}
	if c.JSON {
		return printJSON(out, res)
	}
	_, err = fmt.Fprintf(out, "%s queued again\n", counted(res.GetRetried(), "task", "tasks"))
	return err
}

// QueueRestore is `holdline queue restore`.
type QueueRestore struct {
	Service string `arg:"" optional:"" help:"The service, such as arithmetic.v1.SumService. Without it, all services."`
	Operator
}

// Run prints how many tasks became uncertain.
func (c *QueueRestore) Run(ctx context.Context, out io.Writer) error {
	res, err := c.queues().RestoreQueue(ctx, &momv1.RestoreQueueRequest{Service: c.Service})
	if err != nil {
		return c.fail(err)
	}
	if c.JSON {
		return printJSON(out, res)
	}
	_, err = fmt.Fprintf(out, "%s may have run after the backup\n",
		counted(res.GetUncertain(), "task is uncertain now: it", "tasks are uncertain now: they"))
	return err
}

// isTerminal tells whether a person looks at what is written.
func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// QueueTop is `holdline queue top`.
type QueueTop struct {
	Interval time.Duration `env:"-" default:"1s" help:"The time between two looks at the queues, at least 250ms."`
	Operator
}

// Run prints the queues until it is interrupted. On a terminal each table replaces the one before;
// elsewhere they follow each other. With --json each is one line. Once it has shown some, it goes on when the server does not.
func (c *QueueTop) Run(ctx context.Context, out io.Writer) error {
	shown, told := false, false
	for {
		err := c.watch(ctx, func(queues *momv1.WatchQueuesResponse) error {
			shown, told = true, false
			return c.print(out, queues)
		})
		var failed *callError
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // somebody has ended it
		case !shown, !errors.As(err, &failed), failed.rpc.IsRemote() && failed.rpc.Code() != connect.CodeUnavailable:
			return err
		case told:
		case c.JSON:
			printErrorJSON(os.Stderr, err)
		default:
			_, _ = fmt.Fprintln(os.Stderr, failed.text)
		}
		told = true
		select {
		case <-time.After(c.Interval):
		case <-ctx.Done():
		}
	}
}

// watch has the queues shown until that fails, or the connection does.
func (c *QueueTop) watch(ctx context.Context, show func(*momv1.WatchQueuesResponse) error) error {
	stream, err := c.queues().WatchQueues(ctx, &momv1.WatchQueuesRequest{Interval: durationpb.New(c.Interval)})
	if err != nil {
		return c.fail(err)
	}
	defer func() { _ = stream.Close() }()
	for {
		res, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.fail(err)
		}
		if err := show(res); err != nil {
			return err
		}
	}
}

func (c *QueueTop) print(out io.Writer, queues *momv1.WatchQueuesResponse) error {
	if c.JSON {
		return printJSON(out, queues)
	}
	between := "\n"
	if isTerminal(out) {
		between = "\x1b[H\x1b[2J" // clears the screen
	}
	_, _ = fmt.Fprint(out, between)
	return printQueues(out, queues.GetQueues()...)
}
