// Command bench measures the gateway's direct path beside other proxies: calls a
// second, latency, and what a call costs the proxy in CPU time.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// dispatch runs the benchmark, or is one of its peers.
func dispatch(ctx context.Context, args []string) error {
	if len(args) == 3 && args[0] == reverseProxyCommand {
		return serveReverseProxy(ctx, args[1], args[2])
	}
	s, err := parse(args)
	if err != nil {
		return err
	}
	return s.run(ctx, os.Stdout)
}

// settings are the flags.
type settings struct {
	duration    time.Duration
	rounds      int
	connections []int
	protocols   []string
	peers       []string
	other       string
	jsonFile    string
}

func parse(args []string) (*settings, error) {
	s := &settings{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.DurationVar(&s.duration, "duration", 2*time.Second, "how long each peer is measured, per cell and round")
	flags.IntVar(&s.rounds, "rounds", 5, "how often; medians are reported")
	connections := flags.String("connections", "1,16,64", "connections, one call in flight on each")
	protocols := flags.String("protocol", strings.Join(protocolNames(), ","), "protocols")
	peers := flags.String("peers", "", "peers to measure, by comma (default all that are on PATH: "+strings.Join(peerNames, ", ")+")")
	flags.StringVar(&s.other, "other", "", "another holdline `binary`, measured as "+peerOther+": two builds side by side")
	flags.StringVar(&s.jsonFile, "json", "", "write the rows of all rounds to this `file`")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(*connections, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("connections %q: want numbers from 1, by comma", *connections)
		}
		s.connections = append(s.connections, n)
	}
	s.protocols = strings.Split(*protocols, ",")
	for _, name := range s.protocols {
		if dialers[name] == nil {
			return nil, fmt.Errorf("no protocol %q; there are %s", name, strings.Join(protocolNames(), ", "))
		}
	}
	if *peers != "" {
		s.peers = strings.Split(*peers, ",")
	}
	for _, name := range s.peers {
		if !slices.Contains(peerNames, name) {
			return nil, fmt.Errorf("no peer %q; there are %s", name, strings.Join(peerNames, ", "))
		}
	}
	if s.rounds < 1 || s.duration < 10*time.Millisecond {
		return nil, errors.New("want at least one round of at least 10ms")
	}
	return s, nil
}

// run measures every cell in every round, and reports.
func (s *settings) run(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "holdline-bench-")
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, os.RemoveAll(dir)) }()
	if err := buildHoldline(ctx, dir); err != nil {
		return err
	}
	kinds, err := kindsOf(s.peers, dir, s.other)
	if err != nil {
		return err
	}
	var rows []row
	for round := range s.rounds {
		more, err := s.round(ctx, dir, kinds)
		if err != nil {
			return err
		}
		for i := range more {
			more[i].Round = round + 1
		}
		rows = append(rows, more...)
		_, _ = fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, s.rounds)
	}
	if err := s.report(out, kinds, rows); err != nil {
		return err
	}
	if s.jsonFile != "" {
		if err := writeJSON(s.jsonFile, rows); err != nil {
			return err
		}
	}
	for _, r := range rows {
		if r.Errors > 0 {
			return fmt.Errorf("%s, %s: %d of %d connections failed, first: %s",
				r.Peer, r.Protocol, r.Errors, r.Connections, r.FirstError)
		}
	}
	return nil
}

// round measures every cell once. Processes are new in every round: two of the
// same binary differ by several per cent for as long as they run. Peers take
// turns within a cell, in random order, so that a busy minute of the machine
// meets all of them.
func (s *settings) round(ctx context.Context, dir string, kinds []peerKind) ([]row, error) {
	set, err := startPeers(ctx, dir, kinds)
	if err != nil {
		return nil, err
	}
	defer set.close()
	var rows []row
	for _, protocol := range s.protocols {
		for _, connections := range s.connections {
			for _, i := range rand.Perm(len(set.peers)) {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				p := set.peers[i]
				r, err := measure(ctx, p, protocol, connections, s.duration)
				if err != nil {
					return nil, fmt.Errorf("%s, %s, %d connections: %w", p.name, protocol, connections, err)
				}
				rows = append(rows, r)
			}
		}
	}
	return rows, nil
}
