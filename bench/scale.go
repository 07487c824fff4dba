package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
)

// scaleConnections call in scenario scale, spread over its gateways.
const scaleConnections = 64

// scaled is what scenario scale measures: more shards, or more pairs of a gateway and a MOM. The first is what the others are
// compared with.
var scaled = []deployment{
	{shards: 1, pairs: 1}, {shards: 2, pairs: 1}, {shards: 4, pairs: 1},
	{shards: 1, pairs: 2}, {shards: 1, pairs: 4}, {shards: 4, pairs: 4},
}

// scale measures accepted calls and keyed ones of each deployment, on one Redis and on a cluster. They come one after
// the other, in random order: a busy minute of the machine should not meet the same one in each round.
func (s *settings) scale(ctx context.Context, dir string) (rows []row, err error) {
	for _, i := range rand.Perm(2 * len(s.deployments)) {
		d := s.deployments[i/2]
		d.cluster = i%2 == 1
		more, err := s.scaleOf(ctx, dir, d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", scaleShape("", d).Call, err)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func scaleShape(protocol string, d deployment) shape {
	of := shape{Protocol: protocol, Connections: scaleConnections, Streams: 1, Call: fmt.Sprintf("shards %d, pairs %d", d.shards, d.pairs)}
	if d.cluster {
		of.Call += ", cluster"
	}
	return of
}

func (s *settings) scaleOf(ctx context.Context, dir string, d deployment) (rows []row, err error) {
	systems, err := s.startSystems(ctx, dir, d)
	if err != nil {
		return nil, err
	}
	defer closeSystems(systems)
	take := func(targets []target) error {
		for _, protocol := range s.protocols {
			for _, i := range rand.Perm(len(targets)) {
				r, err := targets[i](ctx, scaleShape(protocol, d))
				if err != nil {
					return fmt.Errorf("%s, %s: %w", r.Peer, protocol, err)
				}
				rows = append(rows, r)
			}
		}
		return nil
	}
	var stored, keyed []target
	for _, system := range systems {
		stored = append(stored, s.target(system, system.peer(scenarioScale, peerStored, askStored), true))
		keyed = append(keyed, s.target(system, system.peer(scenarioScale, peerKeyed, askKeyed), true))
	}
	if err := take(stored); err != nil {
		return nil, err
	}
	for _, system := range systems {
		if err := system.startService(ctx); err != nil {
			return nil, err
		}
	}
	return rows, take(keyed)
}

// figureParts is what all of Holdline uses. The service is none of it.
var figureParts = figure{"CPU", func(c cell) float64 { return c.cpuOf[partGateway] + c.cpuOf[partMOM] + c.cpuOf[partRedis] }}

// reportScale writes a line per deployment and build, and how each stands to one shard and one pair on the same kind of
// store.
func (s *settings) reportScale(out io.Writer, rows []row) error {
	t := newTable(out, "protocol", "call", "peer", "calls/s", "p50 µs", "p99 µs", "CPU µs/call", "gateway", "mom", "redis", "errors")
	var lines [][2]string
	for _, protocol := range s.protocols {
		for _, peer := range []string{peerStored, peerStored + suffixOther, peerKeyed, peerKeyed + suffixOther} {
			for _, cluster := range []bool{false, true} {
				line := [2]string{protocol + ", " + peer + ", CPU per call to that of one shard and one pair"}
				if cluster {
					line[0] += " on a cluster"
				}
				var base cell
				for i, d := range s.deployments {
					d.cluster = cluster
					of := scaleShape(protocol, d)
					c := cellOf(rows, scenarioScale, of, peer)
					if c.rows == 0 {
						continue
					}
					t.line(protocol, of.Call, peer, c.calls, c.p50, c.p99, figureParts.of(c),
						c.used(partGateway), c.used(partMOM), c.used(partRedis), c.errors)
					if i == 0 {
						base = c
						continue
					}
					if line[1] != "" {
						line[1] += "; "
					}
					line[1] += fmt.Sprintf("shards %d, pairs %d: %.2f", d.shards, d.pairs, figureParts.of(c)/figureParts.of(base))
				}
				lines = append(lines, line)
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, line := range lines {
		if err := writeRatios(out, line[0], line[1]); err != nil {
			return err
		}
	}
	return nil
}
