package main

import (
	"context"
	"errors"
	"fmt"
	"net/rpc"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// peerAsynq is a queue on Redis that Go programs use as a library. What enqueues and what works off are processes of
// their own, so its calls pass no gateway and no MOM, and its tasks no network.
const peerAsynq = "asynq"

// The parts of asynq, as in the report.
const (
	partClient = "client"
	partWorker = "worker"
)

// Keys of asynq's queue: tasks that wait, and those that have ended.
const (
	asynqPending   = "asynq:{default}:pending"
	asynqCompleted = "asynq:{default}:completed"
)

// asynqSystem is a client of asynq and a Redis as the system has one.
type asynqSystem struct {
	processes
	redis  string // its socket
	store  *redisConn
	client *rpc.Client
	clocks clocks
}

func startAsynq(ctx context.Context, dir string) (_ *asynqSystem, err error) {
	own, err := os.MkdirTemp(dir, "q")
	if err != nil {
		return nil, err
	}
	a := &asynqSystem{processes: processes{dir: own}, clocks: clocks{}}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if a.redis, err = a.startRedis(own, "--port", "0"); err != nil {
		return nil, err
	}
	a.clocks[partRedis] = []int{a.last().pid()}
	if a.store, err = dialRedis(ctx, a.redis); err != nil {
		return nil, err
	}
	a.client, err = a.program(ctx, partClient)
	return a, err
}

// program starts a process of asynq, as one of the parts.
func (a *asynqSystem) program(ctx context.Context, part string) (*rpc.Client, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(a.dir, part+strconv.Itoa(len(a.all))) // a process that was killed leaves its socket
	p, err := a.start(part, self, asynqCommand, a.redis, socket)
	if err != nil {
		return nil, err
	}
	a.clocks[part] = []int{p.pid()}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		client, err := rpc.Dial("unix", socket)
		if err == nil {
			return client, nil
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("asynq ended at its start; its last words: %s", p.words())
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Millisecond):
		}
	}
}

// enqueueing measures what a client's goroutines enqueue, as many of them as calls are in flight in that cell.
func (a *asynqSystem) enqueueing(of shape, duration time.Duration) (row, error) {
	r := row{shape: of, Scenario: scenarioStored, Peer: peerAsynq}
	if err := a.load(&r, "AsynqProgram.Load", of.Connections*of.Streams, duration); err != nil {
		return r, err
	}
	if pending, err := a.store.do("LLEN " + asynqPending); err != nil || pending != r.made {
		return r, fmt.Errorf("%d tasks of asynq wait, want %d (%w)", pending, r.made, err)
	}
	return r, a.flush()
}

// worker starts a process that will work off tasks, and returns what begins that and what ends the process: even
// with nothing to do it would take time from what is measured next.
func (a *asynqSystem) worker(ctx context.Context, pause time.Duration) (work func() error, stop func(), err error) {
	client, err := a.program(ctx, partWorker)
	if err != nil {
		return nil, nil, err
	}
	process := a.last()
	return func() error { return client.Call("AsynqProgram.Work", pause, &struct{}{}) }, func() {
		_ = client.Close()
		process.kill()
		delete(a.clocks, partWorker)
	}, nil
}

// latency measures how long it takes until the result of a task can be read, at a steady rate.
func (a *asynqSystem) latency(ctx context.Context, name string, of shape, pause, duration time.Duration) (row, error) {
	r := row{shape: of, Scenario: scenarioLatency, Peer: name}
	work, stop, err := a.worker(ctx, pause)
	if err != nil {
		return r, err
	}
	defer stop()
	if err := work(); err != nil {
		return r, err
	}
	if err := a.load(&r, "AsynqProgram.Steadily", of.Connections, duration); err != nil {
		return r, err
	}
	return r, a.flush()
}

// load measures the client.
func (a *asynqSystem) load(r *row, method string, width int, duration time.Duration) error {
	var warm, loaded AsynqLoaded
	asked := AsynqLoad{Width: width, Duration: duration / warmShare}
	if err := a.client.Call(method, asked, &warm); err != nil {
		return err
	}
	before, err := a.clocks.read()
	if err != nil {
		return err
	}
	asked.Duration = duration
	if err := a.client.Call(method, asked, &loaded); err != nil {
		return err
	}
	after, err := a.clocks.read()
	if err != nil {
		return err
	}
	r.Calls, r.CallsPerSec = loaded.Calls, float64(loaded.Calls)/loaded.Elapsed.Seconds()
	r.P50, r.P99 = microseconds(loaded.P50), microseconds(loaded.P99)
	r.made = warm.Calls + loaded.Calls
	r.spend(before, after, r.Calls)
	return nil
}

// workingOff queues tasks, starts a process that works them off, and measures from its start to the last task's end.
// Every task must have its result then.
func (a *asynqSystem) workingOff(ctx context.Context, scenario, protocol string, tasks int) (row, error) {
	r := row{shape: shape{Protocol: protocol, Connections: queueConnections}, Scenario: scenario, Peer: peerAsynq, Calls: tasks}
	var loaded AsynqLoaded
	if err := a.client.Call("AsynqProgram.Load", AsynqLoad{Width: queueConnections, Tasks: tasks}, &loaded); err != nil {
		return r, err
	}
	work, stop, err := a.worker(ctx, asynqShortest)
	if err != nil {
		return r, err
	}
	defer stop()
	start := time.Now()
	before, err := a.clocks.read()
	if err != nil {
		return r, err
	}
	if err := work(); err != nil {
		return r, err
	}
	if err := a.awaitCompleted(ctx, tasks); err != nil {
		return r, err
	}
	elapsed := time.Since(start)
	after, err := a.clocks.read()
	if err != nil {
		return r, err
	}
	r.CallsPerSec = float64(tasks) / elapsed.Seconds()
	r.spend(before, after, tasks)
	results, err := a.store.do(`EVAL "local n = 0 for _, id in ipairs(redis.call('ZRANGE', '` + asynqCompleted + `', 0, -1)) do ` +
		`n = n + redis.call('HEXISTS', 'asynq:{default}:t:' .. id, 'result') end return n" 0`)
	if err != nil || results != tasks {
		return r, fmt.Errorf("%d results of asynq, want %d (%w)", results, tasks, err)
	}
	return r, a.flush()
}

func (a *asynqSystem) awaitCompleted(ctx context.Context, tasks int) error {
	ctx, cancel := context.WithTimeout(ctx, replayTime)
	defer cancel()
	for {
		completed, err := a.store.do("ZCARD " + asynqCompleted)
		if err != nil || completed == tasks {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), fmt.Errorf("%d tasks of asynq have ended, want %d", completed, tasks))
		case <-time.After(lookPause):
		}
	}
}

// flush forgets all tasks. Clients write the name of a queue only once, so it stays.
func (a *asynqSystem) flush() error { return a.store.forget("asynq:{*") }

func (a *asynqSystem) close() {
	if a.client != nil {
		_ = a.client.Close()
	}
	if a.store != nil {
		_ = a.store.conn.Close()
	}
	a.processes.close()
	_ = os.RemoveAll(a.dir)
}
