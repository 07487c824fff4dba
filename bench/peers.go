package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
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
	peerVanguard     = "vanguard"
	peerGRPCGateway  = "grpc-gateway"
)

// peer is what is between the load and the backend.
type peer struct {
	scenario string
	name     string
	addr     map[string]string // by protocol
	ask      *ask
	clocks   clocks // none of the direct path
}

// peerKind says how to start a peer. A new one is a name and a line in kindsOf.
type peerKind struct {
	name   string
	shared bool   // one listener, h1, takes both versions of HTTP
	binary string // "" when it is not on this machine
	// args returns the command line, and may write a configuration to dir.
	args func(dir string, p ports) ([]string, error)
}

// ports are addresses on loopback: the backend's, and two that are free, for
// those that need a listener for each version of HTTP.
type ports struct{ backend, h1, h2 string }

// peerNames are those of all peers, in the order of the report.
var peerNames = []string{peerDirect, peerHoldline, peerOther, peerReverseProxy, peerNginx, peerHAProxy, peerCaddy, peerVanguard, peerGRPCGateway}

// kindsOf returns the kinds named, or without names all that are there, by scenario.
func kindsOf(names []string, dir, other string) (map[string][]peerKind, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	kinds := map[string][]peerKind{}
	for scenario, all := range map[string][]peerKind{
		scenarioDirect: {
			{peerDirect, true, self, nil}, // only the backend is started
			{peerHoldline, true, holdlineBinary(dir), holdlineArgs},
			{peerOther, true, other, holdlineArgs},
			{peerReverseProxy, true, self, selfArgs(reverseProxyCommand)},
			{peerNginx, false, onPath("nginx"), nginxArgs},
			{peerHAProxy, false, onPath("haproxy"), haproxyArgs},
			{peerCaddy, false, onPath("caddy"), caddyArgs},
		},
		scenarioBridged: {
			{peerHoldline, true, holdlineBinary(dir), holdlineArgs},
			{peerOther, true, other, holdlineArgs},
			{peerVanguard, true, self, selfArgs(vanguardCommand)},
			{peerGRPCGateway, true, self, selfArgs(grpcGatewayCommand)},
		},
	} {
		for _, k := range all {
			switch asked := slices.Contains(names, k.name); {
			case k.binary == "" && asked:
				return nil, fmt.Errorf("%s is not on this machine", k.name)
			case k.binary != "" && (asked || len(names) == 0):
				kinds[scenario] = append(kinds[scenario], k)
			}
		}
	}
	return kinds, nil
}

func holdlineArgs(_ string, p ports) ([]string, error) {
	return []string{"gateway", "--listen", p.h1, "--route", service + "=http://" + p.backend}, nil
}

// selfArgs are those of a peer that is this program.
func selfArgs(command string) func(string, ports) ([]string, error) {
	return func(_ string, p ports) ([]string, error) { return []string{command, p.h1, p.backend}, nil }
}

func onPath(name string) string {
	binary, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return binary
}

// peerSet is a backend and the peers in front of it, all running.
type peerSet struct {
	processes
	peers []*peer
}

// startPeers starts those kinds, in random order: neither memory nor ports
// should favour one. In the scenario of the bridge, the backend only speaks gRPC, and is called in JSON alone.
func startPeers(ctx context.Context, dir, scenario string, kinds []peerKind) (_ *peerSet, err error) {
	s := &peerSet{processes: processes{dir: dir}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	addrs, err := freePorts(1 + 2*len(kinds))
	if err != nil {
		return nil, err
	}
	p := ports{backend: addrs[0]}
	direct := &peer{scenario: scenario, name: peerDirect, addr: everywhere(p.backend), ask: askSum}
	if scenario == scenarioBridged {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		direct.addr = map[string]string{protocolGRPC: p.backend}
		if _, err := s.start("backend", self, grpcServiceCommand, p.backend); err != nil {
			return nil, err
		}
	} else if _, err := s.start("backend", holdlineBinary(dir), "service", "sum", "--listen", p.backend); err != nil {
		return nil, err
	}
	if err := s.await(ctx, direct); err != nil {
		return nil, err
	}
	for _, i := range rand.Perm(len(kinds)) {
		if kinds[i].name == peerDirect {
			s.peers = append(s.peers, direct)
			continue
		}
		p.h1, p.h2 = addrs[1+2*i], addrs[2+2*i]
		if err := s.add(ctx, scenario, kinds[i], p); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// add starts a peer and waits until it passes calls on.
func (s *peerSet) add(ctx context.Context, scenario string, k peerKind, p ports) error {
	args, err := k.args(s.dir, p)
	if err != nil {
		return err
	}
	started, err := s.start(k.name, k.binary, args...)
	if err != nil {
		return err
	}
	proxy := &peer{
		scenario: scenario, name: k.name, ask: askSum,
		addr: map[string]string{protocolConnect: p.h1, protocolGRPC: p.h2},
	}
	switch {
	case scenario == scenarioBridged:
		delete(proxy.addr, protocolGRPC)
	case k.shared:
		proxy.addr[protocolGRPC] = p.h1
	}
	if err := s.await(ctx, proxy); err != nil {
		return err
	}
	// Its children are there by now: nginx works in them.
	pids, err := family(started.pid())
	if err != nil {
		return err
	}
	proxy.clocks = clocks{"proxy": pids}
	s.peers = append(s.peers, proxy)
	return nil
}
