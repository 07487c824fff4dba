package gateway_test

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdline/gateway"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/internal/server/servertest"
	engine "holdline/internal/wire"
)

var (
	differSeed  = flag.Uint64("differ.seed", 1, "of the cases of TestEnginesAgree")
	differCases = flag.Int("differ.cases", 1500, "how many there are; CI has 10,000, without the race detector")
	differOnly  = flag.Int("differ.only", -1, "the one case that is run")
)

const (
	batchSize = 50
	// patience is how long a caller waits for something to come, at first. Then it ends its half of the connection, since there may be nothing to come.
	patience = 500 * time.Millisecond
	// differRuns is how often a case has to differ. What comes of one whose time is a matter of luck may differ once. On a busy machine a caller may have
	// waited too short, and a service: so with each run they wait for twice as long, 8 s in the last.
	differRuns = 5
)

// Both engines do the same with odd requests and odd answers: service and MOM see the same, the caller reads the same and may use its
// connection for as long, and the same is counted. What net/http refuses, we refuse. A case has a connection, over which one to three requests
// are sent, and a service of its own, whose answers are odd. It depends on its seed and number alone.
func TestEnginesAgree(t *testing.T) {
	t.Parallel()
	skipWithout(t) // the one run has both
	numbers := []int{*differOnly}
	if *differOnly < 0 {
		numbers = numbers[:0]
		for n := range *differCases {
			numbers = append(numbers, n)
		}
	}
	t.Logf("%d cases of seed %d; other ones: -differ.cases, -differ.seed", len(numbers), *differSeed)
	var plain, again, refused atomic.Int64
	var mu sync.Mutex
	differing := map[*oddCase]string{} // what the first run of a case said; guarded by mu
	excepted := make([]atomic.Int64, len(exceptions))
	t.Run("cases", func(t *testing.T) {
		for some := range slices.Chunk(numbers, batchSize) {
			t.Run(fmt.Sprint("from ", some[0]), func(t *testing.T) {
				t.Parallel()
				var cases []*oddCase
				for _, n := range some {
					cases = append(cases, newOddCase(*differSeed, n))
				}
				own, other := runBoth(t, cases, &plain)
				for i, c := range cases {
					if c.caller == 1 && has(other[i], "400 Bad Request", "(a reason)") {
						refused.Add(1)
					}
					first := difference(own[i], other[i])
					if first == "" {
						continue
					}
					if e := exception(c, own[i], other[i]); e >= 0 {
						excepted[e].Add(1)
						continue
					}
					mu.Lock()
					differing[c] = first
					mu.Unlock()
				}
			})
		}
	})
	for c, first := range differing { // alone: the others made the machine slow
		t.Run(fmt.Sprint("again ", c.number), func(t *testing.T) {
			if said := c.again(t, &plain); said != "" {
				t.Errorf("-differ.seed %d -differ.only %d: the engines differ\n%v\n%s", *differSeed, c.number, c, said)
				return
			}
			again.Add(1)
			t.Logf("case %d differed once, and then not: %s", c.number, first)
		})
	}
	t.Logf("%d calls were plain; %d cases have requests over HTTP/1.1 that both refuse; %d cases differed once, and then not", plain.Load(), refused.Load(), again.Load())
	for i := range excepted {
		t.Logf("%d cases: %s", excepted[i].Load(), exceptions[i].why)
	}
	if few := int64(len(numbers) / 20); *differOnly < 0 && (plain.Load() < few || refused.Load() < few) {
		t.Errorf("of %d cases only %d calls were plain, and only %d were refused", len(numbers), plain.Load(), refused.Load())
	}
}

// again runs a case that differed until it does not, and returns what the last run said; empty: it does not differ.
func (c *oddCase) again(t *testing.T, plain *atomic.Int64) (said string) {
	t.Helper()
	slower := *c
	for range differRuns - 1 {
		slower.patience *= 2
		own, other := runBoth(t, []*oddCase{new(slower)}, plain)
		if said = difference(own[0], other[0]); said == "" || exception(c, own[0], other[0]) >= 0 {
			return ""
		}
	}
	return said
}

// runBoth runs cases with each engine, side by side.
func runBoth(t *testing.T, cases []*oddCase, plain *atomic.Int64) (own, other [][]string) {
	t.Helper()
	var both sync.WaitGroup
	both.Go(func() { own = runWith(t, engine.Own, cases, plain) })
	both.Go(func() { other = runWith(t, engine.NetHTTP, cases, plain) })
	both.Wait()
	return own, other
}

// difference is what two runs of a case do not have in common; empty: they are the same.
func difference(own, other []string) string {
	own, other = comparable(own), comparable(other)
	if slices.Equal(own, other) {
		return ""
	}
	var b strings.Builder
	for _, line := range own {
		if !slices.Contains(other, line) {
			fmt.Fprintf(&b, "  own:      %s\n", line)
		}
	}
	for _, line := range other {
		if !slices.Contains(own, line) {
			fmt.Fprintf(&b, "  net/http: %s\n", line)
		}
	}
	if b.Len() == 0 {
		fmt.Fprintf(&b, "  own:      %q\n  net/http: %q\n", own, other)
	}
	return b.String()
}

// oddCase is a connection, and what goes over it.
type oddCase struct {
	number          int
	caller, service int // the versions of HTTP that they speak
	warm            bool
	inTurn          bool // each request waits for the answer to the one before; always so over HTTP/2
	leaves          bool // the caller leaves when the service is silent
	patience        time.Duration
	requests        []oddRequest
	answers         []oddAnswer // to the requests that come, one after the other; the last one stays
}

// String is the case as bytes.
func (c *oddCase) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "case %d: HTTP/%d to HTTP/%d, warm=%t in turn=%t leaves=%t\n", c.number, c.caller, c.service, c.warm, c.inTurn, c.leaves)
	for _, r := range c.requests {
		fmt.Fprintf(&b, "  > %q %v cut=%t\n", r.raw, r.frames, r.cut)
	}
	for _, a := range c.answers {
		fmt.Fprintf(&b, "  < %q %v end=%q silent=%t\n", a.raw, a.frames, a.end, a.silent)
	}
	return b.String()
}

// name is the case's service.
func (c *oddCase) name() string { return fmt.Sprintf("test.v1.Odd%dService", c.number) }

func newOddCase(seed uint64, number int) *oddCase {
	d := &dice{rand.New(rand.NewPCG(seed, uint64(number)))}
	c := &oddCase{number: number, patience: patience, caller: 1 + d.IntN(2), service: 1 + d.IntN(2), warm: !d.in(5), inTurn: d.in(2)}
	kind := d.pick(contentTypes...)
	n := 1 + d.IntN(3)
	for range n {
		c.requests = append(c.requests, d.request(c, kind))
		if c.caller == 1 && c.requests[len(c.requests)-1].cut {
			c.inTurn = true // the calls before may end with the caller's half of the connection
			break
		}
	}
	// A service that fails again and again may use up the budget of retries, which grows with time.
	odd := d.IntN(n)
	for range odd {
		c.answers = append(c.answers, fineAnswer(c, kind))
	}
	if d.in(4) {
		c.answers = append(c.answers, fineAnswer(c, kind))
		return c
	}
	c.answers = append(c.answers, d.answer(c, kind))
	if n > 1 || d.in(2) {
		c.answers = append(c.answers, fineAnswer(c, kind))
	}
	return c
}

// side is a gateway with one of the engines, between a scripted service and a MOM.
type side struct {
	addr     string
	service  *scripted
	plain    atomic.Int64
	handler  *gateway.Gateway
	registry *prometheus.Registry
}

func (s *side) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.service.calls()()
	s.handler.ServeHTTP(w, r)
}

// ServePlain implements wire.PlainHandler.
func (s *side) ServePlain(req *engine.Request) (*engine.Response, http.Handler) {
	defer s.service.calls()()
	res, next := s.handler.ServePlain(req)
	if res != nil {
		s.plain.Add(1)
	}
	if next == nil {
		return res, nil
	}
	return res, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.service.calls()()
		next.ServeHTTP(w, r)
	})
}

// runWith runs cases one after the other, and returns what there is to say of each.
func runWith(t *testing.T, speaks engine.Engine, cases []*oddCase, plain *atomic.Int64) [][]string {
	t.Helper()
	s := &side{service: newScripted(t), registry: prometheus.NewRegistry()}
	var specs, names []string
	for _, c := range cases {
		names = append(names, c.name())
		specs = append(specs, fmt.Sprintf("%s=http://%s;http=%d", c.name(), s.service.addr, c.service))
	}
	routes, err := route.ParseTable(specs)
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	cfg := gateway.Config{Routes: routes, Schemas: schemasOf(t, names), Metrics: s.registry, Engine: speaks, Logger: quiet}
	if cases[0].number/batchSize%2 == 0 {
		mom := newStandIn(t, nil)
		at := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.service.offered(r)
			mom.ServeHTTP(w, r)
		}))
		cfg.MOM = append(cfg.MOM, &url.URL{Scheme: "http", Host: at})
	}
	if cases[0].number/batchSize%3 == 0 {
		cfg.CORSOrigins = []string{"https://app.example"}
	}
	if s.handler, err = gateway.New(cfg); err != nil {
		t.Fatal(err)
	}
	stopGateway := servertest.Keep(t, s.handler)
	addr, stop := servertest.Run(t, server.Config{Handler: s, Engine: speaks, Logger: quiet})
	s.addr = addr
	var all [][]string
	for _, c := range cases {
		all = append(all, s.run(t, c))
	}
	stop()
	counted := s.counted(t)
	stopGateway()
	for i, c := range cases {
		all[i] = append(all[i], counted[c.name()]...)
	}
	plain.Add(s.plain.Load())
	return all
}

// run runs a case.
func (s *side) run(t *testing.T, c *oddCase) (told []string) {
	t.Helper()
	script := s.service.begin(c)
	if c.warm {
		caller := client(t, c.caller)
		req := request(t, "http://"+s.addr+"/"+c.name()+"/Get", strings.NewReader("{}"), "Content-Type: application/json", warmUp+": 1")
		res, err := caller.Do(req)
		if err == nil {
			_ = res.Body.Close()
		}
		caller.CloseIdleConnections()
		if err != nil || res.StatusCode != http.StatusOK { // as on a busy machine: the case is run again
			return []string{fmt.Sprintf("at %s, the first call: %v, %v", s.addr, res, err)}
		}
	}
	if c.caller == 1 {
		told = c.call1(t, s.addr, script)
	} else {
		told = c.call2(t, s.addr, script)
	}
	// Of a connection that has ended in an error, net/http lets go a second later. No service sees its calls.
	for began := time.Now(); !slices.ContainsFunc(told, endsInError) && script.running.Load() > 0; {
		<-time.After(time.Millisecond)
		if time.Since(began) > 2*c.patience {
			s.service.cut() // net/http does not notice that a caller leaves who has sent more requests
		}
	}
	return append(told, script.end()...)
}

// counted is what was counted of each service.
func (s *side) counted(t *testing.T) map[string][]string {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			service, labels := "", ""
			for _, l := range m.GetLabel() {
				if l.GetName() == "service" {
					service = l.GetValue()
				} else {
					labels += " " + l.GetValue()
				}
			}
			if strings.HasSuffix(f.GetName(), "_endpoints") || strings.HasSuffix(f.GetName(), "_mom_differences") {
				continue // what is asked beside the calls
			}
			count := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			if count > 0 {
				all[service] = append(all[service], fmt.Sprint("counted: ", strings.TrimPrefix(f.GetName(), "holdline_gateway_"), labels, " ", count))
			}
		}
	}
	return all
}
