// Command bench measures the gateway's direct path beside other proxies, and the
// stored path: calls a second, latency, and what a call costs in CPU time.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"maps"
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
	if len(args) > 1 && commands[args[0]] != nil {
		return commands[args[0]](ctx, args[1:])
	}
	s, err := parse(args)
	if err != nil {
		return err
	}
	return s.run(ctx, os.Stdout)
}

// commands make this program a peer, or a backend.
var commands = map[string]func(ctx context.Context, args []string) error{
	reverseProxyCommand: proxyCommand(reverseProxy),
	vanguardCommand:     proxyCommand(vanguardProxy),
	grpcGatewayCommand:  proxyCommand(grpcGateway),
	grpcServiceCommand:  func(ctx context.Context, args []string) error { return serveInGRPCAt(ctx, args[0]) },
	asynqCommand:        func(ctx context.Context, args []string) error { return serveAsynq(ctx, args[0], args[len(args)-1]) },
	echoCommand:         func(ctx context.Context, args []string) error { return serveEcho(ctx, args[0]) },
}

// settings are the flags.
type settings struct {
	scenarios   []string
	duration    time.Duration
	rounds      int
	connections [][2]int // how many, and calls in flight on each
	asks        []*ask   // of the direct path
	protocols   []string
	peers       []string
	other       string
	tasks       int
	bulkTasks   int
	deep        int
	callers     int          // that are held
	deployments []deployment // no flag: the tests take fewer
	idle        int
	jsonFile    string
}

// The names of the scenarios, as in -scenario.
const (
	scenarioDirect  = "direct"
	scenarioStored  = "stored"
	scenarioKeyed   = "keyed"
	scenarioReplay  = "replay"
	scenarioBulk    = "bulk"
	scenarioLatency = "latency"
	scenarioDepth   = "depth"
	scenarioScale   = "scale"
	scenarioHeld    = "held"
	scenarioBridged = "bridged"
	scenarioIdle    = "idle"
)

// usualScenarios are those that are measured if none is named, and requestedScenarios those that take long. Both are in
// the order of the report.
var (
	usualScenarios     = []string{scenarioDirect, scenarioBridged, scenarioStored, scenarioKeyed, scenarioReplay}
	requestedScenarios = []string{scenarioBulk, scenarioLatency, scenarioDepth, scenarioScale, scenarioHeld, scenarioIdle}
	scenarioNames      = slices.Concat(usualScenarios, requestedScenarios)
)

const (
	// maxTasks can be replayed in replayTime.
	maxTasks = 500_000
	// maxBulk can be queued before the first of them expire.
	maxBulk = 50_000
)

func parse(args []string) (*settings, error) {
	s := &settings{deployments: scaled}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	scenarios := flags.String("scenario", strings.Join(usualScenarios, ","), "what to measure; also "+strings.Join(requestedScenarios, ", "))
	flags.DurationVar(&s.duration, "duration", 2*time.Second, "how long each peer is measured, per cell and round")
	flags.IntVar(&s.rounds, "rounds", 4, "how often; medians are reported")
	connections := flags.String("connections", "1,16,64", "connections, one call in flight on each; 8x16: 8 of HTTP/2, with 16 calls in flight on each")
	sizes := flags.String("size", "", "on the direct path, call a service that sends back messages of so many `bytes`, by comma")
	streams := flags.String("messages", "", "on the direct path, call streams, with `numbers` of small messages in their answers, by comma")
	chosen := flags.String("protocol", strings.Join(protocolNames(false), ","), "protocols; also "+strings.Join(protocolNames(true), " and ")+" in "+scenarioDirect+" and "+scenarioIdle)
	peers := flags.String("peers", "", "peers to measure, by comma (default all that are on PATH: "+strings.Join(peerNames, ", ")+")")
	flags.StringVar(&s.other, "other", "", "another holdline `binary`, measured as "+peerOther+" on the direct path, and beside each row of the stored one: two builds side by side")
	flags.IntVar(&s.tasks, "tasks", 20_000, "how many tasks are replayed")
	flags.IntVar(&s.bulkTasks, "bulk", maxBulk, "how many tasks expire at once, and as many do not")
	flags.IntVar(&s.deep, "depth", 1_000_000, "how many tasks wait in the long queue")
	flags.IntVar(&s.callers, "held", maxHeld, "how many callers are held")
	flags.IntVar(&s.idle, "idle", 10_000, "how many connections are idle")
	flags.StringVar(&s.jsonFile, "json", "", "write the rows of all rounds to this `file`")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(*connections, ",") {
		n, width, found := strings.Cut(field, "x")
		if !found {
			width = "1"
		}
		wide, err := numbers("connections", n+","+width)
		if err != nil {
			return nil, err
		}
		s.connections = append(s.connections, [2]int(wide))
	}
	if err := s.ask(*sizes, *streams); err != nil {
		return nil, err
	}
	s.scenarios = strings.Split(*scenarios, ",")
	for _, name := range s.scenarios {
		if !slices.Contains(scenarioNames, name) {
			return nil, fmt.Errorf("no scenario %q; there are %s", name, strings.Join(scenarioNames, ", "))
		}
	}
	s.protocols = strings.Split(*chosen, ",")
	for _, name := range s.protocols {
		if protocols[name].speak == nil {
			return nil, fmt.Errorf("no protocol %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(protocols)), ", "))
		}
		for _, scenario := range s.scenarios {
			if isSecure(name) && scenario != scenarioDirect && scenario != scenarioIdle {
				return nil, fmt.Errorf("%s is not in scenario %s", name, scenario)
			}
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
	if s.tasks < 1 || s.tasks > maxTasks || s.bulkTasks < 1 || s.bulkTasks > maxBulk {
		return nil, fmt.Errorf("want 1 to %d tasks to replay, and 1 to %d to expire", maxTasks, maxBulk)
	}
	if s.idle < 1 {
		return nil, errors.New("want at least one idle connection")
	}
	if s.callers < 1 || s.callers > maxHeld {
		return nil, fmt.Errorf("want 1 to %d callers that are held", maxHeld)
	}
	if s.deep < depthBase {
		return nil, fmt.Errorf("want at least %d tasks that wait", depthBase)
	}
	return s, nil
}

// wantsAsynq tells whether asynq is measured, as it is if no peer is named.
func (s *settings) wantsAsynq() bool {
	return len(s.peers) == 0 || slices.Contains(s.peers, peerAsynq)
}

// ask makes what is asked on the direct path: a sum, unless sizes or numbers of messages are given.
func (s *settings) ask(sizes, streams string) error {
	unary, err := numbers("size", sizes)
	if err != nil {
		return err
	}
	for _, bytes := range unary {
		s.asks = append(s.asks, askEcho(bytes))
	}
	many, err := numbers("messages", streams)
	for _, messages := range many {
		s.asks = append(s.asks, askStream(messages))
	}
	if s.asks == nil {
		s.asks = []*ask{askSum}
	}
	return err
}

// numbers reads those of a flag, none if it is empty.
func numbers(flag, list string) (all []int, err error) {
	if list == "" {
		return nil, nil
	}
	for field := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%s %q: want numbers from 1, by comma", flag, list)
		}
		all = append(all, n)
	}
	return all, nil
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
			return fmt.Errorf("round %d: %w", round+1, err)
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
			return fmt.Errorf("%s, %s, %s: %d of %d connections failed, first: %s",
				r.Scenario, r.Peer, r.shape, r.Errors, r.Connections, r.FirstError)
		}
	}
	return nil
}

// round measures every cell of every scenario once. Processes are new in every
// round: two of the same binary differ by several per cent for as long as they run.
func (s *settings) round(ctx context.Context, dir string, kinds map[string][]peerKind) (rows []row, err error) {
	for _, scenario := range scenarioNames {
		if !slices.Contains(s.scenarios, scenario) {
			continue
		}
		var more []row
		switch scenario {
		case scenarioDirect, scenarioBridged:
			more, err = s.proxies(ctx, dir, scenario, kinds[scenario])
		case scenarioStored:
			more, err = s.stored(ctx, dir)
		case scenarioKeyed:
			more, err = s.keyed(ctx, dir)
		case scenarioReplay:
			more, err = s.replay(ctx, dir)
		case scenarioBulk:
			more, err = s.bulk(ctx, dir)
		case scenarioLatency:
			more, err = s.latency(ctx, dir)
		case scenarioDepth:
			more, err = s.depth(ctx, dir)
		case scenarioScale:
			more, err = s.scale(ctx, dir)
		case scenarioHeld:
			more, err = s.held(ctx, dir)
		case scenarioIdle:
			more, err = s.idling(ctx, dir, kinds[scenario])
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// cells are what is measured of each peer: protocols, what is asked, and connections. With nothing to ask, peers know it.
func (s *settings) cells(asks []*ask) iter.Seq[shape] {
	if asks == nil {
		asks = []*ask{nil}
	}
	return func(yield func(shape) bool) {
		for _, protocol := range s.protocols {
			for _, a := range asks {
				for _, c := range s.connections {
					of := shape{Protocol: protocol, Connections: c[0], Streams: c[1], ask: a}
					if a != nil {
						of.Call = a.name
					}
					if (c[1] == 1 || protocols[protocol].multiplexes) && !yield(of) {
						return
					}
				}
			}
		}
	}
}

// asksIn are what is asked in a scenario of proxies.
func (s *settings) asksIn(scenario string) []*ask {
	if scenario == scenarioBridged {
		return []*ask{askSum}
	}
	return s.asks
}

// proxies measures what passes a proxy. Peers take turns within a cell, in random
// order, so that a busy minute of the machine meets all of them.
func (s *settings) proxies(ctx context.Context, dir, scenario string, kinds []peerKind) ([]row, error) {
	asks := s.asksIn(scenario)
	set, err := startPeers(ctx, dir, scenario, kinds, s.protocols, asks[0])
	if err != nil {
		return nil, err
	}
	defer set.close()
	var rows []row
	for of := range s.cells(asks) {
		for _, i := range rand.Perm(len(set.peers)) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			p := set.peers[i]
			if p.addr[of.Protocol] == "" {
				continue
			}
			r, err := measure(ctx, p, of, s.duration)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", p.name, of, err)
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}
