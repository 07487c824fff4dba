package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"holdline/internal/contract"
)

const (
	// otherService is down; many of its tasks expire while calls of the first one are measured.
	otherService   = "arithmetic.v1.SubtractionService"
	otherProcedure = "/" + otherService + "/Subtract"

	// bulkConnections leave a small machine time for what is measured.
	bulkConnections = 4
	// bulkChunk is how many tasks get one TTL, which is an hour, or until bulkLife after the first.
	bulkChunk = 2000
	bulkLife  = 75 * time.Second
)

// The names of what is measured while nothing expires, and while much does.
const (
	peerQuiet = "quiet"
	peerBulk  = "bulk"
)

// bulk measures calls with keys of one service before and while half of the tasks of another
// one expire at once. With another binary it measures both.
func (s *settings) bulk(ctx context.Context, dir string) (rows []row, err error) {
	for _, b := range s.builds(dir) {
		for _, protocol := range s.protocols {
			more, err := s.bulkOf(ctx, dir, b, protocol)
			if err != nil {
				return nil, fmt.Errorf("bulk%s, %s: %w", b.suffix, protocol, err)
			}
			rows = append(rows, more...)
		}
	}
	return rows, nil
}

func (s *settings) bulkOf(ctx context.Context, dir string, b build, protocol string) (rows []row, err error) {
	nowhere, err := freePorts(loopback, 1)
	if err != nil {
		return nil, err
	}
	system, err := startSystem(ctx, dir, deployment{build: b, routes: []string{otherService + "=http://" + nowhere[0]}})
	if err != nil {
		return nil, err
	}
	defer system.close()
	if err := system.startService(ctx); err != nil {
		return nil, err
	}
	if err := fillOther(ctx, system, protocol, s.bulkTasks, func() time.Duration { return time.Hour }); err != nil {
		return nil, err
	}
	at := time.Now().Add(bulkLife)
	if err := fillOther(ctx, system, protocol, s.bulkTasks, func() time.Duration { return time.Until(at) }); err != nil {
		return nil, err
	}
	of := shape{Protocol: protocol, Connections: bulkConnections, Streams: 1}
	quiet, err := measure(ctx, system.peer(scenarioBulk, peerQuiet, askKeyed), of, s.duration)
	if err != nil {
		return nil, err
	}
	if err := system.expect(ctx, otherService, 2*s.bulkTasks); err != nil {
		return nil, fmt.Errorf("too slow to measure before the end of their lives: %w", err)
	}
	select {
	case <-time.After(time.Until(at)):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	busy, err := measure(ctx, system.peer(scenarioBulk, peerBulk, askKeyed), of, s.duration)
	if err != nil {
		return nil, err
	}
	open, err := system.moms[0].open(ctx, otherService)
	busy.Ended = 2*s.bulkTasks - open
	return []row{quiet, busy}, err
}

// fillOther queues tasks of the other service, each of which lives for as long as life says
// then.
func fillOther(ctx context.Context, system *system, protocol string, tasks int, life func() time.Duration) error {
	for left := tasks; left > 0; left -= bulkChunk {
		lives := life()
		if lives < time.Second {
			return errors.New("too slow to queue the tasks before the end of their lives")
		}
		ask := &ask{procedure: otherProcedure, handle: true, header: [][2]string{
			{contract.HeaderPrefer, "respond-async"}, {contract.HeaderTTL, lives.Truncate(time.Millisecond).String()},
		}}
		if _, err := queue(ctx, system.gateways[0], protocol, ask, min(left, bulkChunk)); err != nil {
			return err
		}
	}
	return nil
}

// reportBulk writes a line per protocol and binary.
func (s *settings) reportBulk(out io.Writer, rows []row) error {
	t := newTable(out, "protocol", "peer", "calls/s before", "p50 µs", "p99 µs", "calls/s meanwhile", "p50 µs", "p99 µs", "p99 to p99", "tasks ended meanwhile", "errors")
	for _, protocol := range s.protocols {
		for _, other := range []string{"", suffixOther} {
			quiet := cellOf(rows, scenarioBulk, shape{Protocol: protocol}, peerQuiet+other)
			busy := cellOf(rows, scenarioBulk, shape{Protocol: protocol}, peerBulk+other)
			if quiet.rows == 0 {
				continue
			}
			name := peerHoldline
			if other != "" {
				name = peerOther
			}
			t.line(protocol, name, quiet.calls, quiet.p50, quiet.p99, busy.calls, busy.p50, busy.p99,
				fmt.Sprintf("%.2f", busy.p99/quiet.p99), busy.ended, quiet.errors+busy.errors)
		}
	}
	return t.Flush()
}
