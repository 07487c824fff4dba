package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/alecthomas/kong"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"google.golang.org/protobuf/types/known/timestamppb"

	"holdline/client"
	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
	"holdline/internal/stack"
)

// Task is `holdline task`.
type Task struct {
	List    TaskList    `cmd:"" help:"List the tasks of all callers, newest first. For operators."`
	Get     TaskGet     `cmd:"" help:"Show a task."`
	Wait    TaskWait    `cmd:"" help:"Wait for a task and print its answer."`
	Cancel  TaskCancel  `cmd:"" help:"Cancel a task that was not sent to its service yet. A dead or uncertain task is dismissed instead."`
	Retry   TaskRetry   `cmd:"" help:"Put a dead or uncertain task into its queue again."`
	Dismiss TaskDismiss `cmd:"" help:"Say that nobody will retry a dead or uncertain task. Its call is dropped, and its state can still be read."`
}

func (r *Remote) tasks() momv1connect.TaskServiceClient {
	return momv1connect.NewTaskServiceClient(r.connect())
}

// TaskList is `holdline task list`.
type TaskList struct {
	Service string   `env:"-" placeholder:"NAME" help:"List only the tasks of this service."`
	State   []string `env:"-" placeholder:"STATE" help:"List only tasks in these states: queued, running, retrying, succeeded, failed, cancelled, expired, dead, uncertain."`
	Limit   int      `env:"-" default:"50" help:"Maximum number of tasks to list."`
	Operator
}

// Run prints a table.
func (c *TaskList) Run(ctx context.Context, out io.Writer) error {
	if c.Limit == 0 {
		return usagef("--limit: want 1 or more")
	}
	req := &momv1.ListTasksRequest{Service: c.Service}
	for _, name := range c.State {
		state, ok := momv1.TaskState_value["TASK_STATE_"+strings.ToUpper(name)]
		if !ok || state == 0 {
			return usagef("no state %q; holdline task list --help lists them", name)
		}
		req.States = append(req.States, momv1.TaskState(state))
	}
	all := &momv1.ListTasksResponse{}
	for len(all.GetTasks()) < c.Limit {
		req.PageSize = int32(min(c.Limit-len(all.GetTasks()), 1000))
		page, err := c.tasks().ListTasks(ctx, req)
		if err != nil {
			return c.fail(err)
		}
		all.Tasks = append(all.Tasks, page.GetTasks()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if c.JSON {
		return printJSON(out, all)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "TASK\tMETHOD\tSTATE\tATTEMPTS\tAGE\tLAST FAILURE")
	for _, t := range all.GetTasks() {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%s\n", t.GetId(), t.GetProcedure()[strings.LastIndexByte(t.GetProcedure(), '/')+1:],
			contract.StateName(t.GetState()), t.GetAttempts(), max(time.Since(t.GetCreateTime().AsTime()), 0).Round(time.Second), t.GetLastFailure()) // its time is the store's
	}
	return table.Flush()
}

// OneTask are the arguments of a command about one task.
type OneTask struct {
	ID string `arg:"" name:"id" help:"The id of the task."`
	Remote
}

// TaskGet is `holdline task get`.
type TaskGet struct{ OneTask }

// Run shows the task, without its answer.
func (c *TaskGet) Run(ctx context.Context, out io.Writer) error {
	res, err := c.tasks().GetTask(ctx, &momv1.GetTaskRequest{Id: c.ID})
	return c.show(out, res.GetTask(), err)
}

// show prints the task that a command got, unless it got an error.
func (c *OneTask) show(out io.Writer, t *momv1.Task, err error) error {
	switch {
	case err != nil:
		return c.fail(err)
	case c.JSON:
		return printJSON(out, t)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, value any) {
		if value != "" {
			_, _ = fmt.Fprintf(table, "%s\t%v\n", name, value)
		}
	}
	at := func(name string, stamp *timestamppb.Timestamp) {
		if stamp != nil {
			row(name, stamp.AsTime().Local().Format(time.RFC3339))
		}
	}
	row("task", t.GetId())
	row("procedure", t.GetProcedure())
	row("state", contract.StateName(t.GetState()))
	row("attempts", t.GetAttempts())
	if n := t.GetEarlierAttempts(); n > 0 {
		row("attempts before its retry", n)
	}
	row("handed off for", t.GetCause())
	row("last failure", t.GetLastFailure())
	at("created", t.GetCreateTime())
	if t.GetEndTime() == nil {
		at("expires", t.GetExpireTime())
	}
	at("next attempt", t.GetNextAttemptTime())
	at("ended", t.GetEndTime())
	at("dismissed", t.GetDismissTime())
	at("answer kept until", t.GetAnswerExpireTime())
	return table.Flush()
}

// TaskWait is `holdline task wait`.
type TaskWait struct {
	Wait *time.Duration `env:"-" placeholder:"DURATION" help:"How long to wait at most. 0 for not at all. Default: until the task ends."`
	OneTask
}

// Run waits, tells of progress on standard error, and prints the answer.
func (c *TaskWait) Run(ctx context.Context, out io.Writer) error {
	// await is patient. So whether there is a gateway, and such a task, is seen before.
	looking, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	_, err := c.tasks().GetTask(looking, &momv1.GetTaskRequest{Id: c.ID})
	switch {
	case connect.CodeOf(err) == connect.CodeDeadlineExceeded && !notDialled(err): // whoever says so: nothing is known of the task
		return c.fail(connect.Errorf(connect.CodeUnavailable, "no answer within %s, so whether there is such a task is not known", lookTime).WithCause(err))
	case err != nil:
		return c.fail(err)
	}
	return c.await(ctx, out, c.ID, c.Wait)
}

// await waits for a task and prints its answer. Without a limit it waits until the task ends. When it is
// interrupted or out of time, the task goes on, and await says how to wait for it again.
func (r *Remote) await(ctx context.Context, out io.Writer, id string, limit *time.Duration) error {
	bounded, cancel := ctx, context.CancelFunc(func() {})
	if limit != nil {
		bounded, cancel = context.WithTimeout(ctx, *limit)
	}
	defer cancel()
	started := time.Now()
	_, _, err := client.New(r.connect()).Wait(bounded, id, func(t *momv1.Task) {
		if r.JSON {
			_ = printJSON(os.Stderr, t)
			return
		}
		_, _ = fmt.Fprintf(os.Stderr, "%s: %s, %s\n", time.Since(started).Round(time.Second), contract.StateName(t.GetState()), counted(t.GetAttempts(), "attempt", "attempts"))
	})
	switch {
	case ctx.Err() != nil:
		return r.goesOn(&momv1.TaskHandle{Id: id})
	case err == nil:
		return r.printAnswer(ctx, out, id, failsafe.With(readPatience))
	case bounded.Err() != nil, limit != nil && connect.CodeOf(err) == connect.CodeDeadlineExceeded: // out of time, it may have ended all the same
		looking, cancel := context.WithTimeout(ctx, lookTime)
		defer cancel()
		return r.printAnswer(looking, out, id, failsafe.With[*http.Response]())
	}
	return r.fail(err)
}

// goesOn is the error of a command that does not wait for a task to end. It says which command waits again.
func (r *Remote) goesOn(handle *momv1.TaskHandle) error {
	stored := contract.Stored(handle)
	return &callError{rpc: stored, text: stored.Error(), hint: "the task goes on: " + r.waitAgain(handle.GetId())}
}

// waitAgain is the command that waits for a task, or prints its answer again.
func (r *Remote) waitAgain(id string) string { return "holdline task wait " + id + r.flags() }

// flags are those by which another command reaches the same gateway, each after a space: what it would take from its default or its
// variable is left out.
func (r *Remote) flags() (line string) {
	usual, _ := serverURL("--server", cmp.Or(os.Getenv("HOLDLINE_SERVER"), stack.DefaultListen)) // empty, if it is no address
	if r.Server != usual {
		line += " --server " + quoted(r.Server)
	}
	if r.CACert != "" && r.CACert != kong.ExpandPath(os.Getenv("HOLDLINE_CACERT")) {
		line += " --cacert " + quoted(r.CACert)
	}
	return line
}

// quoted writes a word as a shell reads it.
func quoted(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

var plainWord = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// lookTime bounds a look at a task or its answer that waits for nothing.
const lookTime = 10 * time.Second

// readPatience is for an answer whose gateway, MOM or store is replaced between its end and its reading: about half a minute, also
// when each try waits for a gateway that is silent. An error of the task's own names its task.
var readPatience = retrypolicy.NewBuilder[*http.Response]().WithBackoff(100*time.Millisecond, 2*time.Second).WithMaxRetries(20).
	WithMaxDuration(35 * time.Second).ReturnLastFailure().
	HandleIf(func(res *http.Response, err error) bool {
		return err != nil || res.StatusCode >= http.StatusBadGateway && res.StatusCode <= http.StatusGatewayTimeout && res.Header.Get(contract.HeaderTask) == ""
	}).Build()

// printAnswer reads the answer as JSON, which needs no schema here.
func (r *Remote) printAnswer(ctx context.Context, out io.Writer, id string, reading failsafe.Executor[*http.Response]) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Server+"/v1/tasks/"+id+"/answer", nil)
	if err != nil {
		return err
	}
	var raw []byte
	res, err := reading.WithContext(ctx).Get(func() (*http.Response, error) {
		res, err := r.http().Do(req)
		if err != nil {
			return nil, err
		}
		defer func() { _ = res.Body.Close() }()
		raw, err = io.ReadAll(res.Body)
		return res, err
	})
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return r.goesOn(&momv1.TaskHandle{Id: id})
	case err != nil:
		return r.fail(connect.Errorf(connect.CodeUnavailable, "read the answer: %s", err).WithCause(err))
	}
	switch res.StatusCode {
	case http.StatusOK:
		_, err := fmt.Fprintf(out, "%s\n", raw)
		return r.unwritten(err, id)
	case http.StatusAccepted:
		return r.goesOn(&momv1.TaskHandle{Id: id})
	}
	rpcErr, err := readError(raw)
	if err != nil {
		return fmt.Errorf("read the answer: HTTP %s: %w", res.Status, err)
	}
	return r.fail(rpcErr)
}

// TaskCancel is `holdline task cancel`.
type TaskCancel struct{ OneTask }

// Run cancels and shows the task.
func (c *TaskCancel) Run(ctx context.Context, out io.Writer) error {
	res, err := c.tasks().CancelTask(ctx, &momv1.CancelTaskRequest{Id: c.ID})
	return c.show(out, res.GetTask(), err)
}

// TaskRetry is `holdline task retry`.
type TaskRetry struct{ OneTask }

// Run queues and shows the task.
func (c *TaskRetry) Run(ctx context.Context, out io.Writer) error {
	res, err := c.tasks().RetryTask(ctx, &momv1.RetryTaskRequest{Id: c.ID})
	return c.show(out, res.GetTask(), err)
}

// TaskDismiss is `holdline task dismiss`.
type TaskDismiss struct{ OneTask }

// Run dismisses and shows the task.
func (c *TaskDismiss) Run(ctx context.Context, out io.Writer) error {
	res, err := c.tasks().DismissTask(ctx, &momv1.DismissTaskRequest{Id: c.ID})
	return c.show(out, res.GetTask(), err)
}
