package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// step is one fault, or its end, of one part of a house.
type step struct {
	at   time.Duration
	part string // "mom 1"
	what string // one of faultsOf its kind
	mend bool   // this ends it
}

// faultsOf are the faults that each kind of part may have.
var faultsOf = map[string][]string{
	"gateway": {"kill", "term", "freeze"},
	"mom":     {"kill", "term", "freeze"},
	"ledger":  {"kill", "freeze"},
	"redis":   {"kill", "freeze", "refuse", "evict", "jump"},
	"link":    {"slow", "hole", "reset"}, // between a MOM and Redis
	"bridge":  {"slow", "hole", "reset"}, // between the gateways and a MOM
}

// How long a part is left alone, and how long a fault lasts. A lease is 10 s, so
// that some end early and others don't.
const (
	minWell, maxWell = 2 * time.Second, 9 * time.Second
	minIll, maxIll   = 50 * time.Millisecond, 2 * time.Second
)

// plan draws the faults of each part: the same seed, the same plan.
func plan(rng *rand.Rand, parts []string, length time.Duration) map[string][]step {
	all := map[string][]step{}
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(rng.Int64N(int64(most-least)))
	}
	for _, part := range parts {
		for at := between(0, maxWell); at < length; at += between(minWell, maxWell) {
			kind, _, _ := strings.Cut(part, " ")
			what := faultsOf[kind][rng.IntN(len(faultsOf[kind]))]
			all[part] = append(all[part], step{at, part, what, false})
			at += between(minIll, maxIll)
			all[part] = append(all[part], step{at, part, what, true})
		}
	}
	return all
}

// patient is a house whose parts can be made ill, by name.
type patient struct {
	*house
	*ledgers
}

// parts names the parts of some kinds, in an order that is always the same.
func (p patient) parts(kinds string) (names []string) {
	for kind := range strings.SplitSeq(kinds, ",") {
		n := map[string]int{"gateway": len(p.gateways), "mom": len(p.moms), "redis": 1, "ledger": len(p.processes), "link": len(p.links), "bridge": len(p.bridges)}[kind]
		for i := range n {
			names = append(names, fmt.Sprint(kind, " ", i))
		}
	}
	return names
}

// suffer does all steps of a plan in their time, each part on its own, and returns
// how many faults there were of each kind of part.
func (p patient) suffer(tb testing.TB, plan map[string][]step) map[string]int {
	tb.Helper()
	started, faults := time.Now(), map[string]int{}
	var parts sync.WaitGroup
	for part, steps := range plan {
		kind, _, _ := strings.Cut(part, " ")
		faults[kind] += len(steps) / 2
		parts.Go(func() {
			for _, s := range steps {
				<-time.After(time.Until(started.Add(s.at)))
				p.do(tb, s)
			}
		})
	}
	parts.Wait()
	return faults
}

// do does one step. Only the faults of links have any duration in themselves.
func (p patient) do(tb testing.TB, s step) {
	tb.Helper()
	var name string
	var i int
	if _, err := fmt.Sscan(s.part, &name, &i); err != nil {
		tb.Fatal(err)
	}
	switch name {
	case "redis":
		p.doRedis(tb, s)
	case "link":
		p.links[i].suffer(s)
	case "bridge":
		p.bridges[i].suffer(s)
	default:
		map[string][]*process{"gateway": p.gateways, "ledger": p.processes, "mom": p.moms}[name][i].suffer(tb, s)
	}
}

// How far the clock of Redis jumps: longer than a lease, to either side in turns.
const clockJump = time.Minute

func (p patient) doRedis(tb testing.TB, s step) {
	tb.Helper()
	switch s.what {
	case "kill":
		if s.mend {
			p.redis.Restart(tb)
		} else {
			p.redis.Kill(tb)
		}
	case "freeze":
		if s.mend {
			p.redis.Thaw(tb)
		} else {
			p.redis.Freeze(tb)
		}
	case "refuse": // as a master does that was demoted
		if s.mend {
			p.redis.Ask(tb, "REPLICAOF", "NO", "ONE")
		} else {
			p.redis.Ask(tb, "REPLICAOF", "127.0.0.1", "1")
		}
	case "evict":
		if s.mend {
			p.redis.Ask(tb, "CONFIG", "SET", "maxmemory-policy", "noeviction")
		} else {
			p.redis.Ask(tb, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
		}
	case "jump":
		if p.clock == nil {
			return
		}
		by := time.Duration(0)
		if !s.mend {
			by = clockJump
			if s.at.Milliseconds()%2 == 0 {
				by = -by
			}
		}
		p.clock.Run(tb, by)
	}
}

// suffer does one step of a link's.
func (l *link) suffer(s step) {
	switch {
	case s.mend:
		l.heal()
	case s.what == "slow":
		l.slow(100 * time.Millisecond)
	case s.what == "hole":
		l.blackHole()
	default:
		l.reset()
	}
}

// suffer does one step of a process's.
func (p *process) suffer(tb testing.TB, s step) {
	tb.Helper()
	switch {
	case s.what == "freeze" && s.mend:
		p.signal(tb, syscall.SIGCONT)
	case s.what == "freeze":
		p.freeze(tb)
	case s.mend:
		<-p.gone // one that was told to end takes its time
		p.restart(tb)
	case s.what == "term":
		p.signal(tb, syscall.SIGTERM)
	default:
		p.kill(tb)
	}
}
