package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// machine is a network namespace with an address of its own: what runs in it has its own
// loopback and all ports, as on a machine of its own.
type machine struct {
	name string
	ip   string
}

// pairs numbers the networks of this process.
var pairs atomic.Int32

// machines makes two machines that reach each other. It skips a test that may not.
func machines(tb testing.TB) (ours, strangers machine) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("network namespaces need root: strangers on other machines were not tried")
	}
	n := pairs.Add(1)
	name := fmt.Sprintf("holdline-%d-%d", os.Getpid(), n)
	ours, strangers = machine{name + "a", fmt.Sprintf("10.97.%d.1", n)}, machine{name + "b", fmt.Sprintf("10.97.%d.2", n)}
	for _, m := range []machine{ours, strangers} {
		if out, err := exec.Command("ip", "netns", "add", m.name).CombinedOutput(); err != nil {
			tb.Skipf("no network namespaces here, so strangers on other machines were not tried: ip netns add: %v: %s", err, out)
		}
		tb.Cleanup(func() { _ = exec.Command("ip", "netns", "del", m.name).Run() })
	}
	must := func(args ...string) {
		tb.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			tb.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	must("link", "add", "wire", "netns", ours.name, "type", "veth", "peer", "name", "wire", "netns", strangers.name)
	for _, m := range []machine{ours, strangers} {
		must("-n", m.name, "addr", "add", m.ip+"/24", "dev", "wire")
		must("-n", m.name, "link", "set", "wire", "up")
		must("-n", m.name, "link", "set", "lo", "up")
	}
	return ours, strangers
}

// at is an address on the machine that others reach.
func (m machine) at(port string) string { return net.JoinHostPort(m.ip, port) }

// start starts a command of the binary on the machine.
func (m machine) start(tb testing.TB, bin string, args ...string) {
	tb.Helper()
	p := &process{name: "ip", args: append([]string{"netns", "exec", m.name, filepath.Join(bin, "holdline")}, args...)}
	p.begin(tb)
}

// run runs a command of the binary on the machine, and returns what it says and its exit status.
func (m machine) run(tb testing.TB, bin string, args ...string) (said string, status int) {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), "ip", append([]string{"netns", "exec", m.name, filepath.Join(bin, "holdline")}, args...)...)
	out, _ := cmd.CombinedOutput() // its status says it
	return string(out), cmd.ProcessState.ExitCode()
}

// within runs something on the machine. Sockets that it opens stay there.
func (m machine) within(run func() error) error {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		ended <- func() error {
			space, err := os.Open("/run/netns/" + m.name)
			if err != nil {
				return err
			}
			defer func() { _ = space.Close() }()
			if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			return run()
		}()
	}()
	return <-ended
}

// dial dials from the machine.
func (m machine) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = m.within(func() (err error) {
		conn, err = new(net.Dialer).DialContext(bounded, network, addr)
		return err
	})
	return conn, err
}

// listen listens on the machine until the test ends.
func (m machine) listen(tb testing.TB, addr string) (ln net.Listener) {
	tb.Helper()
	if err := m.within(func() (err error) {
		ln, err = net.Listen("tcp", addr)
		return err
	}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	return ln
}

// transport speaks HTTP/1.1 from the machine.
func (m machine) transport() *http.Transport {
	return &http.Transport{DialContext: m.dial, DisableKeepAlives: true}
}
