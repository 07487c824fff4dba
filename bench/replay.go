package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	queueConnections = 16 // that queue what is replayed
	replayTime       = 5 * time.Minute
	heldCalls        = 5 // in each round and protocol
	// probePause is that of the MOM between two looks at a service that is down.
	// Where in it the service returns is left to chance.
	probePause = 250 * time.Millisecond
)

// replay measures what becomes of queued tasks when their service returns, and
// how long a held caller waits from then on; and what asynq works off.
func (s *settings) replay(ctx context.Context, dir string) (rows []row, err error) {
	systems, err := s.startSystems(ctx, dir, deployment{})
	if err != nil {
		return nil, err
	}
	defer closeSystems(systems)
	var replays []func(protocol string) ([]row, error)
	for _, system := range systems {
		replays = append(replays, func(protocol string) ([]row, error) { return s.replayAt(ctx, system, protocol) })
	}
	if s.wantsAsynq() {
		a, err := startAsynq(ctx, dir)
		if err != nil {
			return nil, err
		}
		defer a.close()
		replays = append(replays, func(protocol string) ([]row, error) {
			r, err := a.workingOff(ctx, scenarioReplay, protocol, s.tasks)
			return []row{r}, err
		})
	}
	for _, protocol := range s.protocols {
		for _, i := range rand.Perm(len(replays)) {
			more, err := replays[i](protocol)
			if err != nil {
				return nil, fmt.Errorf("replay, %s: %w", protocol, err)
			}
			rows = append(rows, more...)
		}
	}
	return rows, nil
}

func (s *settings) replayAt(ctx context.Context, system *system, protocol string) ([]row, error) {
	r, err := s.replayQueue(ctx, system, protocol)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Peer, err)
	}
	rows := []row{r}
	for range heldCalls {
		r, err := measureHeld(ctx, system, protocol)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Peer, err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// replayQueue queues tasks, lets the service return, and measures from its first
// answer to the last task's end.
func (s *settings) replayQueue(ctx context.Context, system *system, protocol string) (row, error) {
	r := row{shape: shape{Protocol: protocol, Connections: queueConnections}, Scenario: scenarioReplay, Peer: peerReplay + system.suffix, Calls: s.tasks}
	ids, err := queue(ctx, system.gateways[0], protocol, askStored, s.tasks)
	if err != nil {
		return r, err
	}
	if err := system.expect(ctx, service, s.tasks); err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, replayTime)
	defer cancel()
	if err := system.startService(ctx); err != nil {
		return r, err
	}
	defer system.stopService()
	start := time.Now()
	before, err := system.clocks.read()
	if err != nil {
		return r, err
	}
	if err := system.awaitTasks(ctx, 0); err != nil {
		return r, err
	}
	elapsed := time.Since(start)
	after, err := system.clocks.read()
	if err != nil {
		return r, err
	}
	r.CallsPerSec = float64(s.tasks) / elapsed.Seconds()
	r.spend(before, after, s.tasks)
	if err := checkAnswers(ctx, system.gateways[0], ids); err != nil {
		return r, err
	}
	return r, system.flush()
}

// queue stores that many calls and returns the tasks' ids.
func queue(ctx context.Context, addr, protocol string, a *ask, tasks int) ([]string, error) {
	return queueOn(ctx, queueConnections, addr, protocol, a, tasks)
}

// queueOn does so on that many connections.
func queueOn(ctx context.Context, connections int, addr, protocol string, a *ask, tasks int) ([]string, error) {
	ids := make([]string, tasks)
	var group errgroup.Group
	for first := range connections {
		group.Go(func() error {
			c, err := dial(ctx, protocol, addr, a)
			if err != nil {
				return err
			}
			defer c.close()
			for i := first; i < tasks && ctx.Err() == nil; i += connections {
				if err := c.expire(time.Now().Add(patience)); err != nil {
					return err
				}
				if err := call(c); err != nil {
					return err
				}
				ids[i] = c.task()
			}
			return ctx.Err()
		})
	}
	return ids, group.Wait()
}

// checkAnswers reads the answer of every task.
func checkAnswers(ctx context.Context, addr string, ids []string) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: queueConnections}}
	defer client.CloseIdleConnections()
	var group errgroup.Group
	for first := range queueConnections {
		group.Go(func() error {
			for i := first; i < len(ids); i += queueConnections {
				if err := checkAnswer(ctx, client, "http://"+addr+"/v1/tasks/"+ids[i]+"/answer"); err != nil {
					return fmt.Errorf("answer of %s: %w", ids[i], err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func checkAnswer(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		Result float64 `json:"result"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != http.StatusOK || answer.Result != 3 {
		return fmt.Errorf("%s, result %v (%w), want 200 and 3", res.Status, answer.Result, err)
	}
	return nil
}

// measureHeld has one caller held, lets the service return, and measures from its
// first answer to that of the caller.
func measureHeld(ctx context.Context, system *system, protocol string) (row, error) {
	r := row{shape: shape{Protocol: protocol, Connections: 1}, Scenario: scenarioReplay, Peer: peerHeld + system.suffix, Calls: 1}
	c, err := dial(ctx, protocol, system.gateways[0], askHeld)
	if err != nil {
		return r, err
	}
	defer c.close()
	if err := c.expire(time.Now().Add(30 * time.Second)); err != nil {
		return r, err
	}
	var answered time.Time
	called := make(chan error, 1)
	go func() {
		err := call(c)
		answered = time.Now()
		called <- err
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := system.awaitTasks(ctx, 1); err != nil {
		return r, err
	}
	time.Sleep(rand.N(probePause))
	if err := system.startService(ctx); err != nil {
		return r, err
	}
	defer system.stopService()
	start := time.Now()
	if err := <-called; err != nil {
		return r, err
	}
	// It may have been quicker than the look at the service.
	r.P50 = microseconds(max(answered.Sub(start), 0))
	return r, system.flush()
}

// replayCells are those of the scenario: one of each protocol.
func (s *settings) replayCells(yield func(shape) bool) {
	for _, protocol := range s.protocols {
		if !yield(shape{Protocol: protocol}) {
			return
		}
	}
}

// reportReplay writes a line per protocol and build, and how long held callers waited.
func (s *settings) reportReplay(out io.Writer, rows []row) error {
	t := newTable(out, "protocol", "peer", "tasks", "tasks/s", "mom CPU µs/task", "redis", "service", "worker", "held calls", "median ms", "longest ms")
	for of := range s.replayCells {
		line := func(name, heldName string) {
			if c, held := cellOf(rows, scenarioReplay, of, name), cellOf(rows, scenarioReplay, of, heldName); c.rows > 0 {
				t.line(of.Protocol, name, s.tasks, c.calls, c.used(partMOM), c.used(partRedis), c.used(partService), c.used(partWorker),
					held.rows, known(held.p50/1e3), known(held.longest/1e3))
			}
		}
		line(peerReplay, peerHeld)
		line(peerReplay+suffixOther, peerHeld+suffixOther)
		line(peerAsynq, "")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, name := range []string{peerReplay, peerReplay + suffixOther} {
		drained := ratios(rows, scenarioReplay, s.replayCells, name, peerAsynq, figureCalls)
		if err := writeRatios(out, name+", drained/s to what asynq works off", drained); err != nil {
			return err
		}
	}
	return writeRatios(out, "CPU per drained task to the other build's",
		ratios(rows, scenarioReplay, s.replayCells, peerReplay, peerReplay+suffixOther, figuresOf(partMOM, partRedis)...))
}
