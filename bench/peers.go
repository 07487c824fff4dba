package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"
)

// The names of the peers, as in -peers and in the report.
const (
	peerDirect       = "direct"
	peerHoldline     = "holdline"
	peerOther        = "holdline-other"
	peerReverseProxy = "reverseproxy"
	peerNginx        = "nginx"
	peerHAProxy      = "haproxy"
	peerCaddy        = "caddy"
)

// peer is what is between the load and the backend.
type peer struct {
	name string
	addr map[string]string // by protocol
	// cpu is what its process has used so far; 0 of the direct path.
	cpu func() (time.Duration, error)
}

// peerKind says how to start a peer. A new one is a new line in peerKinds.
type peerKind struct {
	name   string
	shared bool                  // one listener, h1, takes both versions of HTTP
	binary func(*peerSet) string // "" when it is not on this machine
	// args returns the command line, and may write a configuration to dir.
	args func(dir string, p ports) ([]string, error)
}

// ports are addresses on loopback: the backend's, and two that are free, for
// those that need a listener for each version of HTTP.
type ports struct{ backend, h1, h2 string }

var peerKinds = []peerKind{
	{peerHoldline, true, func(s *peerSet) string { return s.holdline }, holdlineArgs},
	{peerOther, true, func(s *peerSet) string { return s.other }, holdlineArgs},
	{peerReverseProxy, true, func(*peerSet) string { return self() }, func(_ string, p ports) ([]string, error) {
		return []string{reverseProxyCommand, p.h1, p.backend}, nil
	}},
	{peerNginx, false, func(*peerSet) string { return onPath("nginx") }, nginxArgs},
	{peerHAProxy, false, func(*peerSet) string { return onPath("haproxy") }, haproxyArgs},
	{peerCaddy, false, func(*peerSet) string { return onPath("caddy") }, caddyArgs},
}

func holdlineArgs(_ string, p ports) ([]string, error) {
	return []string{"gateway", "--listen", p.h1, "--route", "arithmetic.v1.SumService=http://" + p.backend}, nil
}

func peerNames() []string {
	names := []string{peerDirect}
	for _, k := range peerKinds {
		names = append(names, k.name)
	}
	return names
}

func onPath(name string) string {
	binary, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return binary
}

func self() string {
	binary, err := os.Executable()
	if err != nil {
		return ""
	}
	return binary
}

// peerSet is a backend and the peers in front of it, all running.
type peerSet struct {
	peers           []*peer
	holdline, other string // binaries
	dir             string
	processes       []*process
}

// startPeers starts those named, or without names all that there are.
func startPeers(ctx context.Context, names []string, other string) (_ *peerSet, err error) {
	s := &peerSet{other: other}
	defer func() {
		if err != nil {
			_ = s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "holdline-bench-"); err != nil {
		return nil, err
	}
	if s.holdline, err = buildHoldline(ctx, s.dir); err != nil {
		return nil, err
	}
	addrs, err := freePorts(1 + 2*len(peerKinds))
	if err != nil {
		return nil, err
	}
	p := ports{backend: addrs[0]}
	if err := s.start("backend", s.holdline, "service", "sum", "--listen", p.backend); err != nil {
		return nil, err
	}
	direct := &peer{
		name: peerDirect,
		addr: map[string]string{protocolConnect: p.backend, protocolGRPC: p.backend},
		cpu:  func() (time.Duration, error) { return 0, nil },
	}
	if err := s.await(ctx, direct); err != nil {
		return nil, err
	}
	if len(names) == 0 || slices.Contains(names, peerDirect) {
		s.peers = append(s.peers, direct)
	}
	for i, k := range peerKinds {
		asked := slices.Contains(names, k.name)
		binary := k.binary(s)
		switch {
		case len(names) > 0 && !asked, !asked && binary == "":
			continue
		case binary == "":
			return nil, fmt.Errorf("%s is not on this machine", k.name)
		}
		p.h1, p.h2 = addrs[1+2*i], addrs[2+2*i]
		if err := s.add(ctx, k, binary, p); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// add starts a peer and waits until it passes calls on.
func (s *peerSet) add(ctx context.Context, k peerKind, binary string, p ports) error {
	args, err := k.args(s.dir, p)
	if err != nil {
		return err
	}
	if err := s.start(k.name, binary, args...); err != nil {
		return err
	}
	proxy := &peer{name: k.name, addr: map[string]string{protocolConnect: p.h1, protocolGRPC: p.h2}}
	if k.shared {
		proxy.addr[protocolGRPC] = p.h1
	}
	if err := s.await(ctx, proxy); err != nil {
		return err
	}
	// Its children are there by now: nginx works in them.
	pids, err := family(s.processes[len(s.processes)-1].cmd.Process.Pid)
	if err != nil {
		return err
	}
	proxy.cpu = func() (time.Duration, error) { return cpuTime(pids) }
	s.peers = append(s.peers, proxy)
	return nil
}

// await waits until a peer answers in every protocol.
func (s *peerSet) await(ctx context.Context, p *peer) error {
	const startup = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, startup)
	defer cancel()
	for protocol, dial := range dialers {
		for {
			err := tryOnce(ctx, dial, p.addr[protocol])
			if err == nil {
				break
			}
			select {
			case <-s.processes[len(s.processes)-1].done:
				return fmt.Errorf("%s ended at its start; its last words: %s", p.name, s.processes[len(s.processes)-1].words())
			case <-ctx.Done():
				return fmt.Errorf("%s does not pass calls of %s on: %w", p.name, protocol, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func tryOnce(ctx context.Context, dial func(context.Context, string) (caller, error), addr string) error {
	c, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.expire(time.Now().Add(time.Second)); err != nil {
		return err
	}
	return c.call()
}

// close ends what was started, the backend last, and removes the files.
func (s *peerSet) close() error {
	for _, p := range slices.Backward(s.processes) {
		p.end()
	}
	return os.RemoveAll(s.dir)
}
