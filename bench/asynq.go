package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/rpc"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sys/unix"
)

// asynqCommand makes this program one of asynq: asynq REDIS LISTEN, both of them sockets. It does what it is told at
// the second one, see AsynqProgram.
const asynqCommand = "asynq"

const (
	// asynqWorkers is how many tasks are worked off at once, as a MOM sends of a shard.
	asynqWorkers = 64
	// asynqShortest and asynqUsual are about how long a server waits after it has found no task. With the shortest time
	// it always asks Redis, which costs a core where nothing waits.
	asynqShortest, asynqUsual = time.Nanosecond, time.Millisecond
	// asynqLookPause is that between two looks at a task whose result is waited for.
	asynqLookPause = 50 * time.Microsecond
	// asynqPool is more than there are tasks under way, so that none waits for a connection.
	asynqPool = 256
	// payloadBytes is the length of what a task says.
	payloadBytes = 100
)

// asynqResult is what the handler writes: as long as an answer.
const asynqResult = `{"result":3.0000000}`

func serveAsynq(ctx context.Context, redis, listen string) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", listen)
	if err != nil {
		return err
	}
	opt := asynq.RedisClientOpt{Network: "unix", Addr: redis, PoolSize: asynqPool}
	s := rpc.NewServer()
	if err := s.Register(&AsynqProgram{opt, asynq.NewClient(opt)}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	s.Accept(ln)
	return nil
}

// AsynqProgram is what programs of asynq do, each in a process of its own. Its methods are those of net/rpc.
type AsynqProgram struct {
	redis  asynq.RedisClientOpt
	client *asynq.Client
}

// AsynqLoad asks for tasks: so many, or as many as can be queued in that time.
type AsynqLoad struct {
	Width    int // how many goroutines queue them
	Tasks    int
	Duration time.Duration
}

// AsynqLoaded is what came of it.
type AsynqLoaded struct {
	Calls    int
	Elapsed  time.Duration
	P50, P99 time.Duration
}

// Load queues tasks.
func (p *AsynqProgram) Load(asked AsynqLoad, loaded *AsynqLoaded) error {
	latencies, errs := make([][]time.Duration, asked.Width), make([]error, asked.Width)
	var begun atomic.Int64
	start := time.Now()
	var group sync.WaitGroup
	for i := range asked.Width {
		group.Go(func() {
			for now := time.Now(); ; {
				if asked.Tasks > 0 && begun.Add(1) > int64(asked.Tasks) || asked.Tasks == 0 && now.Sub(start) >= asked.Duration {
					return
				}
				if _, errs[i] = p.enqueue(); errs[i] != nil {
					return
				}
				sent := now
				now = time.Now()
				latencies[i] = append(latencies[i], now.Sub(sent))
			}
		})
	}
	group.Wait()
	loaded.Elapsed = time.Since(start)
	sorted := slices.Sorted(slices.Values(slices.Concat(latencies...)))
	loaded.Calls, loaded.P50, loaded.P99 = len(sorted), percentile(sorted, 50), percentile(sorted, 99)
	return errors.Join(errs...)
}

// enqueue queues a task whose payload no other task has. Its result is kept, as answers are.
func (p *AsynqProgram) enqueue() (*asynq.TaskInfo, error) {
	payload := fmt.Sprintf("%016x", rand.Uint64())
	task := asynq.NewTask("sum", []byte(payload+strings.Repeat("0", payloadBytes-len(payload))))
	return p.client.Enqueue(task, asynq.Retention(time.Hour), asynq.MaxRetry(0))
}

// Work begins to work off tasks, with that time between two looks at an empty queue.
func (p *AsynqProgram) Work(pause time.Duration, _ *struct{}) error {
	server := asynq.NewServer(p.redis, asynq.Config{Concurrency: asynqWorkers, TaskCheckInterval: pause, LogLevel: asynq.ErrorLevel})
	return server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		_, err := task.ResultWriter().Write([]byte(asynqResult))
		return err
	}))
}

// Steadily queues tasks at an even rate, and watches some of them until their results can be read.
func (p *AsynqProgram) Steadily(asked AsynqLoad, loaded *AsynqLoaded) error {
	inspector := asynq.NewInspector(p.redis)
	defer func() { _ = inspector.Close() }()
	var seen watched
	pause := unix.NsecToTimespec(asynqLookPause.Nanoseconds()) // time.Sleep would sleep for a millisecond
	start := time.Now()
	calls, err := seen.steadily(asked.Width, asked.Duration, func(int) (string, error) {
		task, err := p.enqueue()
		if err != nil {
			return "", err
		}
		return task.ID, nil
	}, func(id string) error {
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); _ = unix.Nanosleep(&pause, nil) {
			task, err := inspector.GetTaskInfo("default", id)
			if err != nil || string(task.Result) == asynqResult {
				return err
			}
		}
		return errors.New("a task has no result")
	})
	loaded.Elapsed, loaded.Calls = time.Since(start), calls
	loaded.P50, loaded.P99 = percentile(seen.latencies, 50), percentile(seen.latencies, 99)
	return err
}
