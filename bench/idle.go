package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// idling measures what connections cost that are open and have no call. Each protocol has processes of its own, since a
// process keeps memory that it needed once.
func (s *settings) idling(ctx context.Context, dir string, kinds []peerKind) (rows []row, err error) {
	for _, protocol := range s.protocols {
		more, err := s.idlingIn(ctx, dir, protocol, kinds)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func (s *settings) idlingIn(ctx context.Context, dir, protocol string, kinds []peerKind) (rows []row, err error) {
	set, err := startPeers(ctx, dir, scenarioIdle, kinds, []string{protocol}, askSum)
	if err != nil {
		return nil, err
	}
	defer set.close()
	for _, i := range rand.Perm(len(set.peers)) {
		r := row{shape: s.idleShape(protocol), Scenario: scenarioIdle, Peer: set.peers[i].name}
		if err := s.idleAt(ctx, set.peers[i], &r); err != nil {
			r.Errors, r.FirstError = 1, err.Error()
		}
		rows = append(rows, r)
	}
	return rows, ctx.Err()
}

func (s *settings) idleShape(protocol string) shape {
	return shape{Protocol: protocol, Connections: s.idle, Streams: 1}
}

// idleAt opens the connections, with a call on each, and looks at the memory when they have been idle for a while. Another call
// shows that all are still open.
func (s *settings) idleAt(ctx context.Context, p *peer, r *row) (err error) {
	if r.MemoryBefore, err = p.clocks.memory(); err != nil {
		return err
	}
	callers := make([]caller, r.Connections)
	for i := range callers {
		if callers[i], err = dial(ctx, r.Protocol, p.addr[r.Protocol], p.ask); err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
		defer callers[i].close()
		if err := timely(callers[i]); err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
	}
	select {
	case <-time.After(s.duration):
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.Memory, err = p.clocks.memory(); err != nil {
		return err
	}
	for i, c := range callers {
		if err := timely(c); err != nil {
			return fmt.Errorf("connection %d, after it was idle: %w", i+1, err)
		}
	}
	r.Calls = 2 * r.Connections
	return nil
}

// timely makes a call that ends in time.
func timely(c caller) error {
	if err := c.expire(time.Now().Add(patience)); err != nil {
		return err
	}
	return call(c)
}

// reportIdle writes a line per protocol and peer.
func (s *settings) reportIdle(out io.Writer, peers []peerKind, rows []row) error {
	t := newTable(out, "protocol", "connections", "peer", "MB before", "MB with them", "KB a connection", "errors")
	for _, protocol := range s.protocols {
		for _, p := range peers {
			if c := cellOf(rows, scenarioIdle, s.idleShape(protocol), p.name); c.rows > 0 {
				t.line(protocol, s.idle, p.name, c.before, c.memory, (c.memory-c.before)*1024/float64(s.idle), c.errors)
			}
		}
	}
	return t.Flush()
}
