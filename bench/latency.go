package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// steadyRate is how many calls a second come, on so many connections.
	steadyRate        = 1000
	steadyConnections = 16
	// Of so many calls one is watched until its answer can be read: to watch costs too.
	watchedShare = 10
)

// peerAsync is a call that gets its handle at once, its service being up. peerAsynqUsual is asynq with a pause that one
// would choose.
const (
	peerAsync      = "respond-async"
	peerAsynqUsual = peerAsynq + ", 1 ms"
)

// latency measures how long it takes from the acceptance of a call until its answer can be read, at a steady rate; and
// the same of asynq.
func (s *settings) latency(ctx context.Context, dir string) (rows []row, err error) {
	systems, err := s.startSystems(ctx, dir, deployment{})
	if err != nil {
		return nil, err
	}
	defer closeSystems(systems)
	var targets []target
	for _, system := range systems {
		if err := system.comeUp(ctx); err != nil {
			return nil, err
		}
		targets = append(targets, func(ctx context.Context, of shape) (row, error) { return s.latencyAt(ctx, system, of) })
	}
	if s.wantsAsynq() {
		a, err := startAsynq(ctx, dir)
		if err != nil {
			return nil, err
		}
		defer a.close()
		for name, pause := range map[string]time.Duration{peerAsynq: asynqShortest, peerAsynqUsual: asynqUsual} {
			targets = append(targets, func(ctx context.Context, of shape) (row, error) { return a.latency(ctx, name, of, pause, s.duration) })
		}
	}
	for _, protocol := range s.protocols {
		for _, i := range rand.Perm(len(targets)) {
			r, err := targets[i](ctx, shape{Protocol: protocol, Connections: steadyConnections})
			if err != nil {
				return nil, fmt.Errorf("latency, %s, %s: %w", r.Peer, protocol, err)
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// latencyAt asks the MOM to wait for the tasks that are watched, at once after each was accepted. What it takes to ask
// is a part of what is measured.
func (s *settings) latencyAt(ctx context.Context, system *system, of shape) (row, error) {
	r := row{shape: of, Scenario: scenarioLatency, Peer: peerAsync + system.suffix}
	callers := make([]caller, of.Connections)
	for i := range callers {
		c, err := dial(ctx, of.Protocol, system.gateways[0], askStored)
		if err != nil {
			return r, err
		}
		defer c.close()
		callers[i] = c
	}
	var seen watched
	accept := func(lane int) (string, error) {
		err := timely(callers[lane])
		return callers[lane].task(), err
	}
	read := func(id string) error { return system.moms[0].wait(ctx, id) }
	if _, err := seen.steadily(len(callers), s.duration/warmShare, accept, read); err != nil {
		return r, err
	}
	before, err := system.clocks.read()
	if err != nil {
		return r, err
	}
	seen, start := watched{}, time.Now()
	r.Calls, err = seen.steadily(len(callers), s.duration, accept, read)
	if err != nil {
		return r, err
	}
	r.CallsPerSec = float64(r.Calls) / time.Since(start).Seconds()
	after, err := system.clocks.read()
	if err != nil {
		return r, err
	}
	r.P50, r.P99 = microseconds(percentile(seen.latencies, 50)), microseconds(percentile(seen.latencies, 99))
	r.spend(before, after, r.Calls)
	if err := system.awaitTasks(ctx, 0); err != nil {
		return r, err
	}
	return r, system.flush()
}

// watched are calls that are watched from their acceptance until their answers can be read.
type watched struct {
	mu        sync.Mutex
	latencies []time.Duration // sorted in the end
}

// steadily makes calls at an even rate and returns how many. accept returns when a call is accepted, with its task's
// id, and read when the answer of a task can be read. Both are called from many goroutines.
func (w *watched) steadily(width int, duration time.Duration, accept func(lane int) (id string, err error), read func(id string) error) (int, error) {
	var lanes, watching errgroup.Group
	calls, start := int(duration*steadyRate/time.Second), time.Now()
	for lane := range width {
		lanes.Go(func() error {
			for n := lane; n < calls; n += width {
				time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / steadyRate)))
				id, err := accept(lane)
				if err != nil {
					return err
				}
				if n%watchedShare != 0 {
					continue
				}
				accepted := time.Now()
				watching.Go(func() error {
					err := read(id)
					took := time.Since(accepted)
					w.mu.Lock()
					defer w.mu.Unlock()
					w.latencies = append(w.latencies, took)
					return err
				})
			}
			return nil
		})
	}
	err := errors.Join(lanes.Wait(), watching.Wait())
	slices.Sort(w.latencies)
	return calls, err
}

// reportLatency writes a line per protocol and peer.
func (s *settings) reportLatency(out io.Writer, rows []row) error {
	t := newTable(out, "protocol", "peer", "calls/s", "p50 µs", "p99 µs", "gateway CPU µs/call", "mom", "redis", "service", "client", "worker")
	var slow []string
	for of := range s.replayCells {
		for _, peer := range []string{peerAsync, peerAsync + suffixOther, peerAsynq, peerAsynqUsual} {
			if c := cellOf(rows, scenarioLatency, of, peer); c.rows > 0 {
				t.line(of.Protocol, peer, c.calls, c.p50, c.p99, c.used(partGateway), c.used(partMOM), c.used(partRedis), c.used(partService),
					c.used(partClient), c.used(partWorker))
				if c.calls < 0.95*steadyRate {
					slow = append(slow, fmt.Sprintf("%s, %s: %.0f", of, peer, c.calls))
				}
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	late := fmt.Sprintf("Too busy a machine for %d calls a second, so that these times are those of calls that wait for a core", steadyRate)
	if err := writeRatios(out, late, strings.Join(slow, "; ")); err != nil {
		return err
	}
	p50 := figure{"p50", func(c cell) float64 { return c.p50 }}
	for _, name := range []string{peerAsync, peerAsync + suffixOther} {
		for _, to := range []string{peerAsynq, peerAsynqUsual} {
			if err := writeRatios(out, name+" to "+to, ratios(rows, scenarioLatency, s.replayCells, name, to, p50)); err != nil {
				return err
			}
		}
	}
	return nil
}
