package e2e

import (
	"context"
	"flag"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdline/internal/freeport"
	"holdline/internal/redistest"
)

// mixedOld is what .ci/run sets.
var mixedOld = flag.String("mixed.old", "", "directory with the holdline of an older release; without it, TestMixed mixes images and route files alone")

// side is what a MOM and a gateway are started with.
type side struct {
	bin, image string
	routes     []string
}

// args are the arguments of the command on one side of a house. The older release has no admin listener.
func (s side) args(tb testing.TB, h *house, command string, i int) []string {
	tb.Helper()
	addr := h.addrs[i]
	if command == "mom" {
		addr = h.momAddr[i]
	}
	listen := []string{"--listen", addr}
	if s.bin != *mixedOld {
		listen = withAdmin(tb, addr)
	}
	all := append([]string{command, "--log-level", "error", "--schema", s.image}, listen...)
	for _, r := range s.routes {
		all = append(all, "--route", r)
	}
	if command == "mom" {
		return append(all, "--redis", h.redis.URL())
	}
	return append(all, "--mom", "http://"+h.momAddr[0], "--mom", "http://"+h.momAddr[1])
}

// become ends what runs on one side of a house, one after the other, and starts what
// follows it.
func (h *house) become(t *testing.T, i int, s side) {
	t.Helper()
	for command, part := range map[string]struct {
		*process
		addr string
	}{"mom": {h.moms[i], h.momAddr[i]}, "gateway": {h.gateways[i], h.addrs[i]}} {
		part.signal(t, syscall.SIGTERM)
		wait(t, part.gone, "the "+command+" has ended")
		part.name, part.args = filepath.Join(s.bin, "holdline"), s.args(t, h, command, i)
		part.restart(t)
		awaitReady(t, part.addr)
	}
}

// A release, an image, a route file and a number of shards change, on one side of a
// house first, while calls are stored and replayed: nothing is lost, runs twice, or is
// told otherwise than it is.
func TestMixed(t *testing.T) {
	ownSystem(t)
	bin, old := build(t), *mixedOld
	if old == "" {
		t.Log("-mixed.old names no older release: this one is on both sides")
		old = bin
	}
	h := &house{redis: redistest.New(t, "--appendfsync", "always"), ledgers: []string{freeport.Addr(t)}}
	route := ledgerService + "=http://" + h.ledgers[0]
	routes := []string{route}
	otherRoutes := []string{"other.v1.Service=http://" + freeport.Addr(t), route + ";ttl=10m"}
	older, newer := olderImage(t), ledgerImage(t)
	for range 2 {
		h.momAddr, h.addrs = append(h.momAddr, freeport.Addr(t)), append(h.addrs, freeport.Addr(t))
	}
	h.addr = h.addrs[0]
	for i, s := range []side{{old, older, routes}, {bin, older, routes}} {
		h.moms = append(h.moms, start(t, s.bin, s.args(t, h, "mom", i)...))
		h.gateways = append(h.gateways, start(t, s.bin, s.args(t, h, "gateway", i)...))
	}
	h.awaitReady(t)

	p := patient{h, h.startLedgers(t)}
	l := newTraffic(t, h.addrs)
	l.kinds, l.older = true, old != bin // one of the images does not know them
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	running.Go(func() { l.run(ctx, rand.New(rand.NewPCG(1, 2)), 100) })
	running.Go(func() { // so that there is something to store, and to replay
		for ctx.Err() == nil {
			for _, s := range []step{{what: "kill"}, {what: "kill", mend: true}} {
				<-time.After(time.Second)
				p.processes[0].suffer(t, s)
			}
		}
	})
	more := func() {
		end := l.calls.Load() + 400
		eventually(t, func() bool { return l.calls.Load() >= end || t.Failed() }, "400 more calls")
	}
	more()
	for _, change := range []struct {
		i int
		side
	}{
		{0, side{bin, older, routes}},      // the last of the older release
		{1, side{bin, newer, otherRoutes}}, // the first with another image and another route file
		{0, side{bin, newer, otherRoutes}},
	} {
		h.become(t, change.i, change.side)
		more()
	}
	for _, shards := range []string{"3", "1"} {
		eventually(t, func() bool { // Redis is asked for much, and may say no
			cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "holdline"), "queue", "shards", ledgerService, shards, "--admin", adminOf(t, h.addr))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Logf("queue shards: %v: %s", err, out)
			}
			return err == nil
		}, "there are %s shards", shards)
		more()
	}
	stop()
	running.Wait()
	if n := len(p.judge(t, l).check()); n > 0 {
		t.Errorf("%d findings", n)
	}
}
