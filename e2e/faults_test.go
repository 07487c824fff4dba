package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// step is one fault, or its end, of one part of a house.
type step struct {
	at   time.Duration
	part string // "mom 1"
	what string // kill, slow, hole or reset; mend ends each
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
			what := "kill"
			if strings.HasPrefix(part, "link") {
				what = []string{"slow", "hole", "reset"}[rng.IntN(3)]
			}
			all[part] = append(all[part], step{at, part, what})
			at += between(minIll, maxIll)
			all[part] = append(all[part], step{at, part, "mend"})
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
		n := map[string]int{"gateway": len(p.gateways), "mom": len(p.moms), "redis": 1, "ledger": len(p.processes), "link": len(p.links)}[kind]
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

// do does one step. Only the links' faults have any duration in themselves.
func (p patient) do(tb testing.TB, s step) {
	tb.Helper()
	var name string
	var i int
	if _, err := fmt.Sscan(s.part, &name, &i); err != nil {
		tb.Fatal(err)
	}
	switch name {
	case "redis":
		if s.what == "kill" {
			p.redis.Kill(tb)
		} else {
			p.redis.Restart(tb)
		}
	case "link":
		switch s.what {
		case "slow":
			p.links[i].slow(100 * time.Millisecond)
		case "hole":
			p.links[i].blackHole()
		case "reset":
			p.links[i].reset()
		default:
			p.links[i].heal()
		}
	default:
		process := map[string][]*process{"gateway": p.gateways, "ledger": p.processes, "mom": p.moms}[name][i]
		if s.what == "kill" {
			process.kill(tb)
		} else {
			process.restart(tb)
		}
	}
}
