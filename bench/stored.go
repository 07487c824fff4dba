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

// stored measures calls that get a handle at once, their service being down, and what asynq enqueues.
func (s *settings) stored(ctx context.Context, dir string) (rows []row, err error) {
	systems, err := s.startSystems(ctx, dir, deployment{})
	if err != nil {
		return nil, err
	}
	defer closeSystems(systems)
	var targets []target
	for _, system := range systems {
		targets = append(targets, s.target(system, system.peer(scenarioStored, peerStored, askStored), true))
	}
	if s.wantsAsynq() {
		a, err := startAsynq(ctx, dir)
		if err != nil {
			return nil, err
		}
		defer a.close()
		targets = append(targets, func(_ context.Context, of shape) (row, error) { return a.enqueueing(of, s.duration) })
	}
	return s.load(ctx, targets)
}

// keyed measures calls that are tasks from the start beside calls that are not,
// their service being up. What asynq works off is measured once.
func (s *settings) keyed(ctx context.Context, dir string) (rows []row, err error) {
	if s.wantsAsynq() {
		if rows, err = s.asynqReference(ctx, dir); err != nil {
			return nil, err
		}
	}
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
		unkeyed := system.peer(scenarioKeyed, peerUnkeyed, askUnkeyed)
		targets = append(targets, s.target(system, unkeyed, false), s.target(system, system.peer(scenarioKeyed, peerKeyed, askKeyed), true))
	}
	more, err := s.load(ctx, targets)
	return append(rows, more...), err
}

// asynqReference is what asynq works off, in no cell of the load.
func (s *settings) asynqReference(ctx context.Context, dir string) ([]row, error) {
	a, err := startAsynq(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer a.close()
	r, err := a.workingOff(ctx, scenarioKeyed, "", s.tasks)
	return []row{r}, err
}

// target is what can be measured in a cell. It is empty afterwards.
type target func(ctx context.Context, of shape) (row, error)

// load measures targets in all cells, from an empty queue each time. They take turns within a cell, in random order.
func (s *settings) load(ctx context.Context, targets []target) (rows []row, err error) {
	for of := range s.cells(nil) {
		for _, i := range rand.Perm(len(targets)) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			r, err := targets[i](ctx, of)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", r.Peer, of, err)
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// target is a system as one. It counts the tasks too, if calls are such: one of each call. They are all open if the
// service is down, and none is if it is up.
func (s *settings) target(system *system, p *peer, tasks bool) target {
	return func(ctx context.Context, of shape) (row, error) {
		before, err := system.stored(ctx)
		if err != nil {
			return row{Peer: p.name}, err
		}
		r, err := measure(ctx, p, of, s.duration)
		if err != nil {
			return r, err
		}
		if r.Errors > 0 { // the run fails in the end; what was stored is anybody's guess
			return r, system.flush()
		}
		after, err := system.stored(ctx)
		if err != nil {
			return r, err
		}
		stored, open := 0, 0
		if tasks {
			stored = r.made
		}
		if system.service == nil {
			open = stored
		}
		if after-before != stored {
			return r, fmt.Errorf("%d tasks were stored, want %d", after-before, stored)
		}
		if err := system.expect(ctx, service, open); err != nil {
			return r, err
		}
		return r, system.flush()
	}
}

// reportStored writes a line per cell and build; the target is one of 16 connections.
func (s *settings) reportStored(out io.Writer, rows []row) error {
	t := newTable(out, "protocol", "connections", "peer", "calls/s", "p50 µs", "p99 µs", "gateway CPU µs/call", "mom", "redis", "client", "errors")
	var targets []string
	for of := range s.cells(nil) {
		for _, peer := range []string{peerStored, peerStored + suffixOther, peerAsynq} {
			c := cellOf(rows, scenarioStored, of, peer)
			if c.rows == 0 {
				continue
			}
			t.line(of.Protocol, of.width(), peer, c.calls, c.p50, c.p99,
				c.used(partGateway), c.used(partMOM), c.used(partRedis), c.used(partClient), c.errors)
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
	for _, name := range []string{peerStored, peerStored + suffixOther} {
		accepted := ratios(rows, scenarioStored, s.cells(nil), name, peerAsynq, figureCalls)
		if err := writeRatios(out, name+", accepted/s to asynq's", accepted); err != nil {
			return err
		}
	}
	return writeRatios(out, "CPU per accepted call to the other build's",
		ratios(rows, scenarioStored, s.cells(nil), peerStored, peerStored+suffixOther, figuresOf(partGateway, partMOM, partRedis)...))
}

// reportKeyed writes two lines per cell and build: calls without a key and with one. The last line is what asynq works off.
func (s *settings) reportKeyed(out io.Writer, rows []row) error {
	t := newTable(out, "protocol", "connections", "calls", "calls/s", "p50 µs", "p99 µs",
		"gateway CPU µs/call", "mom", "redis", "service", "worker", "errors")
	line := func(of shape, name string) {
		if c := cellOf(rows, scenarioKeyed, of, name); c.rows > 0 {
			t.line(of.Protocol, of.width(), name, c.calls, known(c.p50), known(c.p99), c.used(partGateway), c.used(partMOM), c.used(partRedis),
				c.used(partService), c.used(partWorker), c.errors)
		}
	}
	for of := range s.cells(nil) {
		for _, name := range []string{peerUnkeyed, peerUnkeyed + suffixOther, peerKeyed, peerKeyed + suffixOther} {
			line(of, name)
		}
	}
	line(shape{}, peerAsynq)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, name := range []string{peerKeyed, peerKeyed + suffixOther} {
		// In every cell, it is compared with the same of asynq's.
		worked := ratiosTo(cellOf(rows, scenarioKeyed, shape{}, peerAsynq), rows, scenarioKeyed, s.cells(nil), name, figureCalls)
		if err := writeRatios(out, name+"/s to what asynq works off", worked); err != nil {
			return err
		}
	}
	return writeRatios(out, "CPU per keyed call to the other build's",
		ratios(rows, scenarioKeyed, s.cells(nil), peerKeyed, peerKeyed+suffixOther, figuresOf(partGateway, partMOM, partRedis)...))
}
