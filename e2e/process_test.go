package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdline/client"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/child"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/redistest"
)

// process is a command of the binary, as a process of its own.
type process struct {
	name string
	args []string
	env  []string  // besides ours
	log  io.Writer // its standard error; nil: the test's output
	cmd  *exec.Cmd
	gone <-chan struct{}
}

// start runs a command until the test ends, or it is killed.
func start(tb testing.TB, bin string, args ...string) *process {
	tb.Helper()
	p := &process{name: filepath.Join(bin, "holdline"), args: args}
	p.begin(tb)
	return p
}

// begin starts the process for the first time.
func (p *process) begin(tb testing.TB) {
	tb.Helper()
	p.start(tb)
	tb.Cleanup(func() {
		if p.cmd.Process != nil { // else it could not be started again
			_ = p.cmd.Process.Kill() // it may be dead already
		}
		<-p.gone
	})
}

func (p *process) start(tb testing.TB) {
	tb.Helper()
	p.cmd = exec.Command(p.name, p.args...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stdout, p.cmd.Stderr = tb.Output(), tb.Output()
	if p.log != nil {
		p.cmd.Stderr = p.log
	}
	var err error
	if p.gone, err = child.Start(p.cmd, syscall.SIGKILL); err != nil {
		tb.Fatal(err)
	}
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

// freeze stops the process and closes no connection, until SIGCONT.
func (p *process) freeze(tb testing.TB) {
	tb.Helper()
	redistest.FreezeProcess(tb, p.cmd.Process)
}

func (p *process) signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		tb.Fatalf("signal %s: %v", p.args[0], err)
	}
}

// layout is how many there are of what a house may have many of. A zero is one.
type layout struct {
	gateways, moms, ledgers int
	route                   string   // options of the ledger's route
	redis                   []string // options of redis-server
	clocked                 bool     // the test sets the clock of Redis
	elsewhere               []string // flags of a MOM whose Redis is another than the house's own
	linked                  bool     // each MOM reaches Redis by a link that can be bad
	shifted                 bool     // the clock of Redis can be shifted
	bridged                 bool     // all gateways reach each MOM by a link that can be bad
	flags                   []string // of every gateway and MOM
	momFlags                []string // of every MOM
	gatewayFlags            []string // of every gateway
}

// house is the system as it is deployed: gateways and MOMs as processes of their
// own, one Redis; the ledger comes and goes as a test wants it.
type house struct {
	redis    *redistest.Server
	clock    *redistest.Clock // of Redis; nil where it cannot be set
	links    []*link          // one for each MOM, to Redis
	bridges  []*link          // one for each MOM, from the gateways
	moms     []*process
	momAddr  []string
	metrics  []string // of the MOMs
	gateways []*process
	addrs    []string // theirs
	addr     string   // the first one's
	ledgers  []string // where the ledger is expected
	ledger   string   // the first of these places
}

// deploy starts a house with so many MOMs and waits until all take tasks.
func deploy(tb testing.TB, moms int) *house {
	tb.Helper()
	return deployAs(tb, layout{moms: moms})
}

func deployAs(tb testing.TB, l layout) *house {
	tb.Helper()
	ownSystem(tb)
	h := &house{}
	switch {
	case l.shifted:
		h.redis, h.clock = redistest.NewShifted(tb, l.redis...)
	case l.clocked:
		h.redis, h.clock = redistest.NewClocked(tb, time.Now(), l.redis...)
		h.clock.Run(tb, 0)
	case l.elsewhere == nil:
		h.redis = redistest.New(tb, l.redis...)
	}
	for range max(l.ledgers, 1) {
		h.ledgers = append(h.ledgers, freeport.Addr(tb))
	}
	h.ledger = h.ledgers[0]
	bin := build(tb)
	common := []string{"--route", ledgerService + "=http://" + strings.Join(h.ledgers, ",http://") + l.route, "--schema", ledgerImage(tb)}
	common = append(common, l.flags...)
	gateway := slices.Concat([]string{"gateway"}, common, l.gatewayFlags)
	for range max(l.moms, 1) {
		addr, metrics, redis := freeport.Addr(tb), freeport.Addr(tb), l.elsewhere
		switch {
		case l.linked:
			link := newLink(tb, h.redis.URL())
			h.links, redis = append(h.links, link), []string{"--redis", "redis://" + link.addr}
		case redis == nil:
			redis = []string{"--redis", h.redis.URL()}
		}
		h.momAddr, h.metrics = append(h.momAddr, addr), append(h.metrics, metrics)
		h.moms = append(h.moms, start(tb, bin, slices.Concat([]string{"mom", "--metrics", metrics}, withAdmin(tb, addr), redis, common, l.momFlags)...))
		if l.bridged {
			bridge := newLink(tb, addr)
			h.bridges, addr = append(h.bridges, bridge), bridge.addr
		}
		gateway = append(gateway, "--mom", "http://"+addr)
	}
	for range max(l.gateways, 1) {
		addr := freeport.Addr(tb)
		h.addrs = append(h.addrs, addr)
		h.gateways = append(h.gateways, start(tb, bin, slices.Concat(gateway, withAdmin(tb, addr))...))
	}
	h.addr = h.addrs[0]
	h.awaitReady(tb)
	return h
}

// awaitReady waits until all take tasks.
func (h *house) awaitReady(tb testing.TB) {
	tb.Helper()
	for _, addr := range append(h.momAddr[:len(h.momAddr):len(h.momAddr)], h.addrs...) {
		awaitReady(tb, addr)
	}
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

// hold has a caller of Post held on each wire, with amounts from 0, and returns how
// to wait for the handles that their holds end with.
func (h *house) hold(tb testing.TB) (handles func() []string) {
	tb.Helper()
	all := wires()
	ids := make([]string, len(all))
	var callers sync.WaitGroup
	for i, w := range all {
		rpc := w.client(tb, h.addr)
		callers.Go(func() {
			req := amounts(tb, int64(i))
			ctx, _ := withHeaders(tb.Context(), "Prefer: wait=60")
			err := rpc.CallUnary(ctx, ledgerSpec("Post"), req, dynamicpb.NewMessage(req.Descriptor()))
			if connect.CodeOf(err) != connect.CodeDeadlineExceeded || contract.ReasonOf(err) != momv1.Reason_REASON_CALL_STORED {
				tb.Errorf("%s: a held caller got %v, want a handle", w.name, err)
			}
			ids[i] = client.TaskFrom(err).GetId()
		})
	}
	awaitTasks(tb, h.momAddr[0], len(all), momv1.TaskState_TASK_STATE_QUEUED)
	return func() []string {
		callers.Wait()
		return ids
	}
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
