package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
)

// The names of what the stored path is asked. Those of the other build have suffixOther.
const (
	peerStored  = "stored"
	peerKeyed   = "keyed"
	peerUnkeyed = "no key"
	peerReplay  = "replay"
	peerHeld    = "held"
)

// stored measures calls that get a handle at once, their service being down.
func (s *settings) stored(ctx context.Context, dir string) (rows []row, err error) {
	systems, err := s.startSystems(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer closeSystems(systems)
	var targets []target
	for _, system := range systems {
		targets = append(targets, target{system.peer(scenarioStored, peerStored, askStored), system, true})
	}
	return s.load(ctx, targets)
}

// keyed measures calls that are tasks from the start beside calls that are not,
// their service being up.
func (s *settings) keyed(ctx context.Context, dir string) (rows []row, err error) {
	systems, err := s.startSystems(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer closeSystems(systems)
	var targets []target
	for _, system := range systems {
		if err := system.startService(ctx); err != nil {
			return nil, err
		}
		unkeyed := system.peer(scenarioKeyed, peerUnkeyed, askUnkeyed)
		// The gateway may have taken the service for one that is down.
		if err := system.await(ctx, unkeyed); err != nil {
			return nil, err
		}
		targets = append(targets, target{unkeyed, system, false}, target{system.peer(scenarioKeyed, peerKeyed, askKeyed), system, true})
	}
	return s.load(ctx, targets)
}

// target is a system and what it is asked.
type target struct {
	*peer
	system *system
	tasks  bool // each call is one
}

// load measures systems in all cells, from an empty queue each time. They take turns within a cell, in random order.
func (s *settings) load(ctx context.Context, targets []target) (rows []row, err error) {
	for of := range s.cells(nil) {
		for _, i := range rand.Perm(len(targets)) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			r, err := targets[i].measure(ctx, of, s)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", targets[i].name, of, err)
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// measure counts the tasks too: one of each call. They are all open if the service is down, and none is if it is up.
func (t target) measure(ctx context.Context, of shape, s *settings) (row, error) {
	before, err := t.system.mom.stored(ctx)
	if err != nil {
		return row{}, err
	}
	r, err := measure(ctx, t.peer, of, s.duration)
	if err != nil {
		return r, err
	}
	if r.Errors > 0 { // the run fails in the end; what was stored is anybody's guess
		return r, t.system.flush()
	}
	after, err := t.system.mom.stored(ctx)
	if err != nil {
		return r, err
	}
	stored, open := 0, 0
	if t.tasks {
		stored = r.made
	}
	if t.system.service == nil {
		open = stored
	}
	if after-before != stored {
		return r, fmt.Errorf("%d tasks were stored, want %d", after-before, stored)
	}
	if err := t.system.expect(ctx, service, open); err != nil {
		return r, err
	}
	return r, t.system.flush()
}

// reportStored writes a line per cell and build; the target is one of 16 connections.
func (s *settings) reportStored(out io.Writer, rows []row) error {
	t := newTable(out, "protocol", "connections", "peer", "calls/s", "p50 µs", "p99 µs", "gateway CPU µs/call", "mom", "redis", "errors")
	var targets []string
	for of := range s.cells(nil) {
		for _, peer := range []string{peerStored, peerStored + suffixOther} {
			c := cellOf(rows, scenarioStored, of, peer)
			if c.rows == 0 {
				continue
			}
			t.line(of.Protocol, of.width(), peer, c.calls, c.p50, c.p99, c.cpuOf[partGateway], c.cpuOf[partMOM], c.cpuOf[partRedis], c.errors)
			if of.Connections == 16 && peer == peerStored {
				targets = append(targets, fmt.Sprintf("%s %.2f ms", of.Protocol, c.p50/1e3))
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := writeRatios(out, "p50 at 16 connections (target: under 2 ms)", strings.Join(targets, "; ")); err != nil {
		return err
	}
	return writeRatios(out, "CPU per accepted call to the other build's",
		ratios(rows, scenarioStored, s.cells(nil), peerStored, peerStored+suffixOther, figuresOf(partGateway, partMOM, partRedis)...))
}

// reportKeyed writes two lines per cell and build: calls without a key and with one.
func (s *settings) reportKeyed(out io.Writer, rows []row) error {
	t := newTable(out, "protocol", "connections", "calls", "calls/s", "p50 µs", "p99 µs",
		"gateway CPU µs/call", "mom", "redis", "service", "errors")
	for of := range s.cells(nil) {
		for _, peer := range []string{peerUnkeyed, peerUnkeyed + suffixOther, peerKeyed, peerKeyed + suffixOther} {
			if c := cellOf(rows, scenarioKeyed, of, peer); c.rows > 0 {
				t.line(of.Protocol, of.width(), peer, c.calls, c.p50, c.p99,
					c.cpuOf[partGateway], c.cpuOf[partMOM], c.cpuOf[partRedis], c.cpuOf[partService], c.errors)
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return writeRatios(out, "CPU per keyed call to the other build's",
		ratios(rows, scenarioKeyed, s.cells(nil), peerKeyed, peerKeyed+suffixOther, figuresOf(partGateway, partMOM, partRedis)...))
}
