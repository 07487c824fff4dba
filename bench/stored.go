package main

import (
	"context"
	"fmt"
	"math/rand/v2"
)

// The names of what the stored path is asked.
const (
	peerStored  = "stored"
	peerKeyed   = "keyed"
	peerUnkeyed = "no key"
	peerReplay  = "replay"
	peerHeld    = "held"
)

// stored measures calls that get a handle at once, their service being down.
func (s *settings) stored(ctx context.Context, dir string) (rows []row, err error) {
	system, err := startSystem(ctx, dir, holdlineBinary(dir))
	if err != nil {
		return nil, err
	}
	defer system.close()
	return s.load(ctx, system, []target{{system.peer(scenarioStored, peerStored, askStored), keyOpen}})
}

// keyed measures calls that are tasks from the start beside calls that are not,
// their service being up.
func (s *settings) keyed(ctx context.Context, dir string) (rows []row, err error) {
	system, err := startSystem(ctx, dir, holdlineBinary(dir))
	if err != nil {
		return nil, err
	}
	defer system.close()
	if err := system.startService(ctx); err != nil {
		return nil, err
	}
	unkeyed := system.peer(scenarioKeyed, peerUnkeyed, askSum)
	// The gateway may have taken the service for one that is down.
	if err := system.await(ctx, unkeyed); err != nil {
		return nil, err
	}
	return s.load(ctx, system, []target{{unkeyed, ""}, {system.peer(scenarioKeyed, peerKeyed, askKeyed), keyEnded}})
}

// target is a peer, and where its calls are tasks afterwards: "" if nowhere.
type target struct {
	*peer
	key string
}

// load measures a system in all cells, from an empty queue each time, and counts
// the tasks: one of each call.
func (s *settings) load(ctx context.Context, system *system, targets []target) (rows []row, err error) {
	for of := range s.cells(nil) {
		for _, i := range rand.Perm(len(targets)) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			t := targets[i]
			r, err := measure(ctx, t.peer, of, s.duration)
			if err == nil && r.Errors == 0 && t.key != "" {
				err = system.expect(t.key, r.made)
			}
			if err == nil {
				err = system.flush()
			}
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", t.name, of, err)
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}
