package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
)

// So many connections call in scenario scale, spread over its gateways: scaleAll whatever is deployed, and scaleEach for each pair, or
// shard if these are more, as when a system grows with what it has to do.
const (
	scaleAll  = 64
	scaleEach = 16
)

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
			return nil, fmt.Errorf("%s: %w", d.call(), err)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// widths are with how many connections a deployment is called.
func (d deployment) widths() []int { return slices.Compact([]int{scaleAll, d.wide()}) }

// call is what a call is named after that meets the deployment.
func (d deployment) call() string {
	if d.cluster {
		return fmt.Sprintf("shards %d, pairs %d, cluster", d.shards, d.pairs)
	}
	return fmt.Sprintf("shards %d, pairs %d", d.shards, d.pairs)
}

func (d deployment) wide() int { return scaleEach * max(d.shards, d.pairs) }

func scaleShape(protocol string, d deployment, connections int) shape {
	return shape{Protocol: protocol, Connections: connections, Streams: 1, Call: d.call()}
}

func (s *settings) scaleOf(ctx context.Context, dir string, d deployment) (rows []row, err error) {
	systems, err := s.startSystems(ctx, dir, d)
	if err != nil {
		return nil, err
	}
	defer closeSystems(systems)
	take := func(targets []target) error {
		for _, protocol := range s.protocols {
			for _, connections := range d.widths() {
				for _, i := range rand.Perm(len(targets)) {
					r, err := targets[i](ctx, scaleShape(protocol, d, connections))
					if err != nil {
						return fmt.Errorf("%s, %s: %w", r.Peer, protocol, err)
					}
					rows = append(rows, r)
				}
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

// reportScale writes a line per deployment, build and width, and how each stands to one shard and one pair on the same kind of
// store: with as many connections, and with as many for each.
func (s *settings) reportScale(out io.Writer, rows []row) error {
	t := newTable(out, "protocol", "call", "connections", "peer", "calls/s", "p50 µs", "p99 µs", "CPU µs/call", "gateway", "mom", "redis", "errors")
	var lines [][2]string
	for _, protocol := range s.protocols {
		for _, peer := range []string{peerStored, peerStored + suffixOther, peerKeyed, peerKeyed + suffixOther} {
			for _, cluster := range []bool{false, true} {
				at := func(d deployment, connections int) cell {
					d.cluster = cluster
					return cellOf(rows, scenarioScale, scaleShape(protocol, d, connections), peer)
				}
				for _, d := range s.deployments {
					d.cluster = cluster
					for _, connections := range d.widths() {
						if c := at(d, connections); c.rows > 0 {
							t.line(protocol, d.call(), connections, peer, c.calls, c.p50, c.p99, figureParts.of(c),
								c.used(partGateway), c.used(partMOM), c.used(partRedis), c.errors)
						}
					}
				}
				name := protocol + ", " + peer + ", CPU per call to that of one shard and one pair"
				if cluster {
					name += " on a cluster"
				}
				all := func(deployment) int { return scaleAll }
				lines = append(lines,
					[2]string{name, s.scaleRatios(at, all)},
					[2]string{fmt.Sprintf("%s, %d connections for each", name, scaleEach), s.scaleRatios(at, deployment.wide)})
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

// scaleRatios compares what a call takes in each deployment to the first one.
func (s *settings) scaleRatios(at func(deployment, int) cell, wide func(deployment) int) string {
	first := s.deployments[0]
	base := at(first, wide(first))
	var ratios []string
	for _, d := range s.deployments[1:] {
		if c := at(d, wide(d)); c.rows > 0 {
			ratios = append(ratios, fmt.Sprintf("shards %d, pairs %d: %.2f", d.shards, d.pairs, figureParts.of(c)/figureParts.of(base)))
		}
	}
	return strings.Join(ratios, "; ")
}
