package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdline/internal/child"
)

// process is one that this program started.
type process struct {
	name string
	cmd  *exec.Cmd
	said *tail
	done <-chan struct{} // closed when it has ended
}

// processes are those that were started together.
type processes struct {
	dir string // where they work
	all []*process
}

func (s *processes) start(name, binary string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(binary, args...), said: new(tail)}
	p.cmd.Dir = s.dir
	// What a peer keeps between runs (Caddy does) goes with the other files.
	p.cmd.Env = append(os.Environ(), "HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir, "XDG_DATA_HOME="+s.dir)
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	var err error
	if p.done, err = child.Start(p.cmd, syscall.SIGKILL); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.all = append(s.all, p)
	return p, nil
}

// last is what was started last.
func (s *processes) last() *process { return s.all[len(s.all)-1] }

// close ends what was started, the first last.
func (s *processes) close() {
	for _, p := range slices.Backward(s.all) {
		p.end()
	}
}

// ended says which process has ended that should not have, and its last words; nil if none has.
func (s *processes) ended() error {
	for _, p := range s.all {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended; its last words: %s", p.name, p.words())
		default:
		}
	}
	return nil
}

// await waits until a peer answers in each of its protocols. It is the last that was
// started.
func (s *processes) await(ctx context.Context, p *peer) error {
	for protocol, addr := range p.addr {
		if err := s.last().answers(ctx, protocol, addr, p.ask); err != nil {
			return fmt.Errorf("%s, %s: %w", p.name, protocol, err)
		}
	}
	return nil
}

// answers waits until a call of the process's is answered as it should be.
func (p *process) answers(ctx context.Context, protocol, addr string, a *ask) error {
	const startup = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, startup)
	defer cancel()
	for {
		err := tryOnce(ctx, protocol, addr, a)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended at its start; its last words: %s", p.words())
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(time.Millisecond):
		}
	}
}

func tryOnce(ctx context.Context, protocol, addr string, a *ask) error {
	c, err := dial(ctx, protocol, addr, a)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.expire(time.Now().Add(time.Second)); err != nil {
		return err
	}
	return call(c)
}

// end asks the process to end, and kills it if it does not.
func (p *process) end() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.kill()
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) words() string { return p.said.String() }

// tail keeps the last words of a process.
type tail struct {
	mu  sync.Mutex
	end []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const most = 2 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	if over := len(t.end) - most; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.end))
}

// family returns a process and its children.
func family(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	pids := []int{pid}
	for _, name := range stats {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended since
		}
		// pid (name, of any characters) state parent …
		_, rest, _ := strings.Cut(string(raw[bytes.LastIndexByte(raw, ')')+1:]), " ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				return nil, err
			}
			pids = append(pids, child)
		}
	}
	return pids, nil
}

// clocks are the processes of each part of what is measured.
type clocks map[string][]int

// read returns what each part has used so far.
func (c clocks) read() (map[string]time.Duration, error) {
	used := make(map[string]time.Duration, len(c))
	for part, pids := range c {
		var err error
		if used[part], err = cpuTime(pids); err != nil {
			return nil, fmt.Errorf("%s: %w", part, err)
		}
	}
	return used, nil
}

// cpuTime is what processes have used so far, user and system. It reads their
// CPU clocks, which count nanoseconds: /proc/pid/stat counts in 10 ms, several
// per cent of what one connection makes a proxy work in a second.
func cpuTime(pids []int) (time.Duration, error) {
	// clock_getcpuclockid(3) makes the clock's id in this way.
	const schedulerTime = 2
	var total time.Duration
	for _, pid := range pids {
		var used unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|schedulerTime), &used); err != nil {
			return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
		}
		total += time.Duration(used.Nano())
	}
	return total, nil
}

// memory is what the processes have in memory now, in MB.
func (c clocks) memory() (float64, error) {
	pages := 0
	for _, pids := range c {
		for _, pid := range pids {
			raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
			if err != nil {
				return 0, err
			}
			var size, resident int
			if _, err := fmt.Sscan(string(raw), &size, &resident); err != nil {
				return 0, fmt.Errorf("statm of process %d: %w", pid, err)
			}
			pages += resident
		}
	}
	return float64(pages*os.Getpagesize()) / (1 << 20), nil
}

// freePorts returns that many free addresses of a host on loopback. All are held before
// any is let go, so that they differ.
func freePorts(host string, n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		ln, err := net.Listen("tcp", host+":0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = ln.Close() }()
		addrs[i] = ln.Addr().String()
	}
	return addrs, nil
}

func holdlineBinary(dir string) string { return filepath.Join(dir, "holdline") }

// buildHoldline builds the program that is measured from this checkout, by its
// own go.mod: this module's may choose other versions.
func buildHoldline(ctx context.Context, dir string) error {
	out, err := exec.CommandContext(ctx, "go", "build", "-C", "..", "-o", holdlineBinary(dir), ".").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build holdline (run this in bench/): %w\n%s", err, out)
	}
	return nil
}
