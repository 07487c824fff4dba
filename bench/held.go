package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"holdline/internal/contract"
)

const (
	// maxHeld is how many callers one gateway holds.
	maxHeld = 5000
	// heldStreams are those of one connection of HTTP/2, of the 250 that a gateway takes.
	heldStreams = 200
	// heldRate is how many callers come in a second. If all came at once, some would wait longer for the MOM than a
	// gateway waits before it says that nothing was stored.
	heldRate = 1000
)

// askHeldLong is held for as long as a gateway holds callers.
var askHeldLong = &ask{message: hundred, header: [][2]string{{contract.HeaderPrefer, "wait=300"}, {contract.HeaderTTL, taskTTL}}}

// held measures many callers that one gateway holds at once: what memory each takes, and how soon all have their answers
// when the service returns. Each protocol and build has processes of its own, since a process keeps memory that it needed once.
func (s *settings) held(ctx context.Context, dir string) (rows []row, err error) {
	for _, protocol := range s.protocols {
		for _, b := range s.builds(dir) {
			more, err := s.heldAt(ctx, dir, b, protocol)
			if err != nil {
				return nil, fmt.Errorf("held%s, %s: %w", b.suffix, protocol, err)
			}
			rows = append(rows, more...)
		}
	}
	return rows, nil
}

// heldShape has as few connections as the protocol allows.
func (s *settings) heldShape(protocol string) shape {
	of := shape{Protocol: protocol, Connections: s.callers, Streams: 1}
	if protocols[protocol].multiplexes {
		of.Streams = min(heldStreams, s.callers)
		of.Connections = (s.callers + of.Streams - 1) / of.Streams
	}
	return of
}

func (s *settings) heldAt(ctx context.Context, dir string, b build, protocol string) (rows []row, err error) {
	system, err := startSystem(ctx, dir, deployment{build: b})
	if err != nil {
		return nil, err
	}
	defer system.close()
	of := s.heldShape(protocol)
	for _, name := range []string{peerHeld, partGateway, partMOM} {
		rows = append(rows, row{shape: of, Scenario: scenarioHeld, Peer: name + b.suffix, Calls: s.callers})
	}
	answers, parts := &rows[0], rows[1:]
	for i, part := range []string{partGateway, partMOM} {
		if parts[i].MemoryBefore, err = anonymous(system.clocks[part]); err != nil {
			return nil, err
		}
	}
	calling, stop, err := s.hold(ctx, system.gateways[0], of)
	if err != nil {
		return nil, err
	}
	defer stop()
	storing, cancel := context.WithTimeout(ctx, time.Duration(s.callers)*time.Second/heldRate+patience)
	defer cancel()
	if err := system.awaitTasks(storing, s.callers); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(s.duration):
	}
	for i, part := range []string{partGateway, partMOM} {
		if parts[i].Memory, err = anonymous(system.clocks[part]); err != nil {
			return nil, err
		}
	}
	if err := system.startService(ctx); err != nil {
		return nil, err
	}
	start := time.Now()
	var after []time.Duration
	for _, l := range calling() {
		for _, at := range l.answered {
			after = append(after, max(at.Sub(start), 0)) // it may have been quicker than our look at the service
		}
		if l.err != nil {
			answers.Errors++
			answers.FirstError = l.err.Error()
		}
	}
	slices.Sort(after)
	answers.P50, answers.P99, answers.Last = microseconds(percentile(after, 50)), microseconds(percentile(after, 99)), microseconds(percentile(after, 100))
	return rows, nil
}

// holding are the calls of one connection: when they were answered, or why they were not.
type holding struct {
	answered []time.Time
	err      error
}

// hold begins the calls, and returns what waits for their answers, and what ends them.
func (s *settings) hold(ctx context.Context, addr string, of shape) (wait func() []holding, stop func(), err error) {
	callers, holdings := make([]caller, 0, of.Connections), make([]holding, of.Connections)
	var group sync.WaitGroup
	stop = func() {
		for _, c := range callers {
			c.close()
		}
		group.Wait()
	}
	for range of.Connections {
		c, err := dial(ctx, of.Protocol, addr, askHeldLong)
		if err == nil {
			callers = append(callers, c)
			err = c.expire(time.Now().Add(replayTime))
		}
		if err != nil {
			stop()
			return nil, nil, err
		}
	}
	start := time.Now()
	for i, c := range callers {
		group.Go(func() {
			calls := min(of.Streams, s.callers-i*of.Streams)
			time.Sleep(time.Until(start.Add(time.Duration(i*of.Streams) * time.Second / heldRate)))
			holdings[i].err = holdings[i].run(c, calls)
		})
	}
	return func() []holding { group.Wait(); return holdings }, stop, nil
}

func (h *holding) run(c caller, calls int) error {
	for range calls {
		if err := c.send(time.Time{}); err != nil {
			return err
		}
	}
	for range calls {
		if _, err := c.receive(); err != nil {
			return err
		}
		h.answered = append(h.answered, time.Now())
	}
	return nil
}

// anonymous is the memory of processes that is in no file, in MB: what a process allocates, without the program itself.
func anonymous(pids []int) (sum float64, err error) {
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(string(raw), "RssAnon:")
		var kilobytes float64
		if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
			return 0, fmt.Errorf("RssAnon of process %d: %w", pid, err)
		}
		sum += kilobytes / 1024
	}
	return sum, nil
}

// reportHeld writes a line per protocol and build.
func (s *settings) reportHeld(out io.Writer, rows []row) error {
	t := newTable(out, "protocol", "connections", "callers", "peer", "gateway MB before", "KB a caller", "mom MB before", "KB a caller",
		"half answered after ms", "all after ms", "errors")
	for _, protocol := range s.protocols {
		of := s.heldShape(protocol)
		for _, suffix := range []string{"", suffixOther} {
			answers := cellOf(rows, scenarioHeld, of, peerHeld+suffix)
			gateway, mom := cellOf(rows, scenarioHeld, of, partGateway+suffix), cellOf(rows, scenarioHeld, of, partMOM+suffix)
			if answers.rows == 0 {
				continue
			}
			each := func(c cell) float64 { return (c.memory - c.before) * 1024 / float64(s.callers) }
			t.line(protocol, of.width(), s.callers, peerHeld+suffix, gateway.before, each(gateway), mom.before, each(mom),
				answers.p50/1e3, answers.last/1e3, answers.errors)
		}
	}
	return t.Flush()
}
