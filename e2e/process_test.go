package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/client"
	"holdline/internal/redistest"
)

// process is a command of the binary, as a process of its own.
type process struct {
	name string
	args []string
	cmd  *exec.Cmd
	gone chan struct{}
}

// start runs a command until the test ends, or it is killed.
func start(tb testing.TB, bin string, args ...string) *process {
	tb.Helper()
	p := &process{name: filepath.Join(bin, "holdline"), args: args}
	p.start(tb)
	tb.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may be dead already
		<-p.gone
	})
	return p
}

func (p *process) start(tb testing.TB) {
	tb.Helper()
	p.cmd = exec.Command(p.name, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = tb.Output(), tb.Output()
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	gone := make(chan struct{})
	p.gone = gone
	go func(cmd *exec.Cmd) {
		defer close(gone)
		_ = cmd.Wait() // that it was killed is no news
	}(p.cmd)
}

// kill ends the process as a crash does.
func (p *process) kill(tb testing.TB) {
	tb.Helper()
	p.signal(tb, syscall.SIGKILL)
	<-p.gone
}

// restart starts it again after a kill.
func (p *process) restart(tb testing.TB) {
	tb.Helper()
	p.start(tb)
}

func (p *process) signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		tb.Fatalf("signal %s: %v", p.args[0], err)
	}
}

// house is the system as it is deployed: a gateway and MOMs as processes of
// their own, one Redis; the ledger comes and goes as a test wants it.
type house struct {
	redis   *redistest.Server
	moms    []*process
	momAddr []string
	gateway *process
	addr    string // the gateway's
	ledger  string // where the ledger is expected
}

// deploy starts a house with so many MOMs and waits until all take tasks.
func deploy(tb testing.TB, moms int) *house {
	tb.Helper()
	redis := redistest.New(tb)
	h := deployOn(tb, moms, "", "--redis", redis.URL())
	h.redis = redis
	return h
}

// deployOn starts a house whose Redis is somewhere else; route follows the
// ledger's URL.
func deployOn(tb testing.TB, moms int, route string, redis ...string) *house {
	tb.Helper()
	ownSystem(tb)
	h := &house{addr: address(tb), ledger: address(tb)}
	bin := build(tb)
	common := []string{"--route", ledgerService + "=http://" + h.ledger + route, "--schema", ledgerImage(tb)}
	gateway := append([]string{"gateway", "--listen", h.addr}, common...)
	for range moms {
		addr := address(tb)
		h.momAddr = append(h.momAddr, addr)
		h.moms = append(h.moms, start(tb, bin, slices.Concat([]string{"mom", "--listen", addr}, redis, common)...))
		gateway = append(gateway, "--mom", "http://"+addr)
	}
	h.gateway = start(tb, bin, gateway...)
	for _, addr := range append(h.momAddr, h.addr) {
		awaitReady(tb, addr)
	}
	return h
}

// async stores n calls of a method, with amounts from 0, and returns their ids.
func (h *house) async(tb testing.TB, method string, n int) []string {
	tb.Helper()
	ids := make([]string, n)
	rpc := wire{http2: true}.client(tb, h.addr)
	var callers errgroup.Group
	callers.SetLimit(32)
	for i := range n {
		callers.Go(func() error {
			req := amounts(tb, int64(i))
			ctx, _ := withHeaders(tb.Context(), "Prefer: respond-async")
			err := rpc.CallUnary(ctx, ledgerSpec(method), req, dynamicpb.NewMessage(req.Descriptor()))
			handle := client.TaskFrom(err)
			if handle == nil {
				return fmt.Errorf("async call %d: %w, want a handle", i, err)
			}
			ids[i] = handle.GetId()
			return nil
		})
	}
	if err := callers.Wait(); err != nil {
		tb.Fatal(err)
	}
	return ids
}

// checkAnswers waits for the answers of async's calls.
func (h *house) checkAnswers(tb testing.TB, ids []string) {
	tb.Helper()
	tasks := client.New(wire{http2: true}.client(tb, h.addr))
	var readers sync.WaitGroup
	for i, id := range ids {
		readers.Go(func() {
			got := amounts(tb, 0)
			if err := tasks.Answer(tb.Context(), id, got); err != nil || amountOf(got) != int64(i+1) {
				tb.Errorf("answer of call %d: %v, %v, want amount %d", i, got, err, i+1)
			}
		})
	}
	readers.Wait()
}
