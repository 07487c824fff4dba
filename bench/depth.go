package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
)

const (
	// depthBase is the queue that the deep one is compared with.
	depthBase = 1000
	// depthConnections fill a queue.
	depthConnections = 64
	// depthPage is how many tasks a list shows, as `holdline task list` does.
	depthPage = 50
	// depthTimes is how often an operation is done, if there is time for that.
	depthTimes = 500
)

// What is done to a queue, as in the report.
const (
	peerEnqueue    = "enqueue"
	peerQueueDepth = "queue depth"
	peerListAll    = "list"
	peerListQueued = "list queued"
	peerListDead   = "list dead"
	peerCancel     = "cancel"
	peerDrain      = "lease, answer"
	peerMemory     = "memory"
)

// depthPeers are in the order in which they are done. Draining is the last: it changes the queue.
var depthPeers = []string{peerMemory, peerEnqueue, peerQueueDepth, peerListAll, peerListQueued, peerListDead, peerCancel, peerDrain}

// askWaiting has tasks that wait longer than anybody measures.
var askWaiting = &ask{message: hundred, handle: true, header: [][2]string{{contract.HeaderPrefer, "respond-async"}, {contract.HeaderTTL, "24h"}}}

// deep is a system whose queue has many tasks.
type deep struct {
	*system
	size   int
	ids    []string // of some tasks, all over the queue
	caller caller   // of the gateway
	memory float64  // of Redis, in bytes a task
}

// depth measures what operators and callers do to a queue that is short, and to one that is long.
func (s *settings) depth(ctx context.Context, dir string) (rows []row, err error) {
	for _, size := range []int{depthBase, s.deep} {
		more, err := s.depthAt(ctx, dir, size)
		if err != nil {
			return nil, fmt.Errorf("depth %d: %w", size, err)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func (s *settings) depthAt(ctx context.Context, dir string, size int) (rows []row, err error) {
	systems, err := s.startSystems(ctx, dir, deployment{})
	if err != nil {
		return nil, err
	}
	defer closeSystems(systems)
	queues := make([]*deep, len(systems))
	for i, system := range systems {
		if queues[i], err = s.fill(ctx, system, size); err != nil {
			return nil, err
		}
	}
	for _, d := range queues { // now: one that idled while others were filled would have been closed
		if d.caller, err = dial(ctx, s.protocols[0], d.gateways[0], askWaiting); err != nil {
			return nil, err
		}
		defer d.caller.close()
	}
	for _, name := range depthPeers {
		for _, i := range rand.Perm(len(queues)) {
			r, err := s.depthRow(ctx, queues[i], name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.Peer, err)
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// depthShape is the cell of a queue of that many tasks. It is of one protocol: no other one matters to a queue.
func (s *settings) depthShape(size int) shape {
	return shape{Protocol: s.protocols[0], Connections: 1, Streams: 1, Call: strconv.Itoa(size)}
}

// fill queues the tasks, and waits until Redis has written its file anew if it does that.
func (s *settings) fill(ctx context.Context, system *system, size int) (*deep, error) {
	before, err := system.stores[0].info("memory")
	if err != nil {
		return nil, err
	}
	ids, err := queueOn(ctx, depthConnections, system.gateways[0], s.protocols[0], askWaiting, size)
	if err != nil {
		return nil, err
	}
	if err := system.expect(ctx, service, size); err != nil {
		return nil, err
	}
	after, err := system.stores[0].info("memory")
	if err != nil {
		return nil, err
	}
	d := &deep{system: system, size: size, memory: (after.number("used_memory") - before.number("used_memory")) / float64(size)}
	for i := range min(size, depthTimes) {
		d.ids = append(d.ids, ids[i*size/min(size, depthTimes)])
	}
	for {
		persistence, err := system.stores[0].info("persistence")
		if err != nil || persistence.number("aof_rewrite_in_progress") == 0 && persistence.number("aof_rewrite_scheduled") == 0 {
			return d, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lookPause):
		}
	}
}

// depthRow does one of the operations for some time.
func (s *settings) depthRow(ctx context.Context, d *deep, name string) (row, error) {
	r := row{shape: s.depthShape(d.size), Scenario: scenarioDepth, Peer: name + d.suffix}
	if name == peerMemory {
		r.Calls, r.TaskBytes = d.size, d.memory
		return r, nil
	}
	before, err := d.look()
	if err != nil {
		return r, err
	}
	if name == peerDrain {
		r.Calls, err = d.drain(ctx, s.duration)
	} else {
		err = d.repeat(ctx, &r, name, s.duration)
	}
	if err != nil {
		return r, err
	}
	after, err := d.look()
	if err != nil {
		return r, err
	}
	r.CPUOf = map[string]float64{partRedis: microseconds(after.used-before.used) / float64(r.Calls)}
	r.CPU = r.CPUOf[partRedis]
	r.Commands = map[string]float64{}
	for command, used := range after.commands {
		if more := used - before.commands[command]; more > 0 {
			r.Commands[command] = more / float64(r.Calls)
		}
	}
	return r, nil
}

// repeat does an operation again and again, one at a time.
func (d *deep) repeat(ctx context.Context, r *row, name string, duration time.Duration) error {
	var latencies []time.Duration
	for start, n := time.Now(), 0; n == 0 || n < min(depthTimes, d.size/2) && time.Since(start) < duration; n++ {
		began := time.Now()
		if err := d.do(ctx, name, n); err != nil {
			return err
		}
		latencies = append(latencies, time.Since(began))
	}
	slices.Sort(latencies)
	r.Calls = len(latencies)
	r.P50, r.P99 = microseconds(percentile(latencies, 50)), microseconds(percentile(latencies, 99))
	return nil
}

// do does it once.
func (d *deep) do(ctx context.Context, name string, n int) error {
	switch name {
	case peerEnqueue:
		return timely(d.caller)
	case peerQueueDepth:
		_, err := d.moms[0].open(ctx, service)
		return err
	case peerListAll:
		return d.list(ctx, depthPage)
	case peerListQueued:
		return d.list(ctx, depthPage, momv1.TaskState_TASK_STATE_QUEUED)
	case peerListDead:
		return d.list(ctx, 0, momv1.TaskState_TASK_STATE_DEAD)
	case peerCancel:
		return d.moms[0].ask(ctx, "/mom.v1.TaskService/CancelTask", &momv1.CancelTaskRequest{Id: d.ids[n]}, new(momv1.CancelTaskResponse))
	}
	return errors.New("no such operation")
}

// list asks for pages, as `holdline task list` does, until it has as many tasks as it shows, or there are no more.
func (d *deep) list(ctx context.Context, want int, states ...momv1.TaskState) error {
	asked := &momv1.ListTasksRequest{Service: service, States: states, PageSize: depthPage}
	for got := 0; ; {
		var listed momv1.ListTasksResponse
		if err := d.moms[0].ask(ctx, "/mom.v1.TaskService/ListTasks", asked, &listed); err != nil {
			return err
		}
		got += len(listed.GetTasks())
		asked.PageSize, asked.PageToken = depthPage-int32(got), listed.GetNextPageToken()
		switch {
		case asked.PageSize > 0 && asked.PageToken != "":
		case got != want:
			return fmt.Errorf("%d tasks were listed, want %d", got, want)
		default:
			return nil
		}
	}
}

// drain has the service up for some time, and returns how many tasks have ended.
func (d *deep) drain(ctx context.Context, duration time.Duration) (int, error) {
	before, err := d.moms[0].open(ctx, service)
	if err != nil {
		return 0, err
	}
	if err := d.startService(ctx); err != nil {
		return 0, err
	}
	defer d.stopService()
	for start := time.Now(); ; {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(duration):
		}
		left, err := d.moms[0].open(ctx, service)
		if err != nil || left < before {
			return before - left, err
		}
		if time.Since(start) > patience {
			return 0, errors.New("no task was answered")
		}
	}
}

// spent is what Redis has used so far: CPU time, and by command, in µs. What a script does counts as the script's, and
// once more as that of the commands in it.
type spent struct {
	used     time.Duration
	commands map[string]float64
}

func (d *deep) look() (spent, error) {
	stats, err := d.stores[0].info("commandstats")
	if err != nil {
		return spent{}, err
	}
	s := spent{commands: map[string]float64{}}
	for name, value := range stats {
		// cmdstat_get:calls=1,usec=2,usec_per_call=2.00,…
		if _, usec, ok := strings.Cut(value, "usec="); ok {
			usec, _, _ = strings.Cut(usec, ",")
			s.commands[strings.TrimPrefix(name, "cmdstat_")], _ = strconv.ParseFloat(usec, 64)
		}
	}
	s.used, err = cpuTime(d.clocks[partRedis])
	return s, err
}

// reportDepth writes a line per operation and build, with both queues side by side.
func (s *settings) reportDepth(out io.Writer, rows []row) error {
	t := newTable(out, "peer", "redis CPU µs at "+strconv.Itoa(depthBase), "p50 µs", "p99 µs",
		"redis CPU µs at "+strconv.Itoa(s.deep), "p50 µs", "p99 µs", "redis to redis", "p50 to p50", "commands µs")
	var memory []string
	for _, peer := range depthPeers {
		for _, suffix := range []string{"", suffixOther} {
			base := cellOf(rows, scenarioDepth, s.depthShape(depthBase), peer+suffix)
			long := cellOf(rows, scenarioDepth, s.depthShape(s.deep), peer+suffix)
			switch {
			case base.rows == 0 || long.rows == 0:
			case peer == peerMemory:
				memory = append(memory, fmt.Sprintf("%s%s %.0f bytes at %d, %.0f at %d", peerHoldline, suffix,
					base.taskBytes, depthBase, long.taskBytes, s.deep))
			case peer == peerDrain:
				t.line(peer+suffix, base.cpu, "–", "–", long.cpu, "–", "–", fmt.Sprintf("%.2f", long.cpu/base.cpu), "–", mostUsed(long))
			default:
				t.line(peer+suffix, base.cpu, base.p50, base.p99, long.cpu, long.p50, long.p99,
					fmt.Sprintf("%.2f", long.cpu/base.cpu), fmt.Sprintf("%.2f", long.p50/base.p50), mostUsed(long))
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return writeRatios(out, "Memory of Redis per task", strings.Join(memory, "; "))
}

// mostUsed are the commands that took most of the time.
func mostUsed(c cell) string {
	const most = 3
	names := slices.SortedFunc(maps.Keys(c.commands), func(a, b string) int { return cmp.Compare(c.commands[b], c.commands[a]) })
	words := []string{}
	for _, name := range names[:min(most, len(names))] {
		words = append(words, fmt.Sprintf("%s %.1f", name, c.commands[name]))
	}
	return strings.Join(words, ", ")
}
