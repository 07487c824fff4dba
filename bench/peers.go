package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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
	more     []string          // addresses of its other processes, which speak all protocols: connections take turns
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
type ports struct {
	backend, h1, h2 string
	service         string // of the backend
	pem             string // a file with a certificate and its key
	secure          bool   // callers speak TLS
}

// peerNames are those of all peers, in the order of the report.
var peerNames = []string{peerDirect, peerHoldline, peerOther, peerReverseProxy, peerNginx, peerHAProxy, peerCaddy, peerVanguard, peerGRPCGateway, peerAsynq}

// kindsOf returns the kinds named, or without names all that are there, by scenario.
func kindsOf(names []string, dir, other string) (map[string][]peerKind, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	proxies := []peerKind{
		{peerHoldline, true, holdlineBinary(dir), holdlineArgs},
		{peerOther, true, other, holdlineArgs},
		{peerReverseProxy, true, self, selfArgs(reverseProxyCommand)},
		{peerNginx, false, onPath("nginx"), nginxArgs},
		{peerHAProxy, false, onPath("haproxy"), haproxyArgs},
		{peerCaddy, false, onPath("caddy"), caddyArgs},
	}
	kinds := map[string][]peerKind{}
	for scenario, all := range map[string][]peerKind{
		scenarioDirect: append([]peerKind{{peerDirect, true, self, nil}}, proxies...), // only the backend of direct is started
		scenarioIdle:   proxies,
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

func holdlineArgs(dir string, p ports) ([]string, error) {
	route := p.service + "=http://" + p.backend
	if p.service == echoService {
		image := filepath.Join(dir, "echo.binpb")
		if err := writeEchoSchema(image); err != nil {
			return nil, err
		}
		route += ";health=dial;schema=" + image
	}
	args := []string{"gateway", "--listen", p.h1, "--route", route}
	if p.secure {
		args = append(args, "--tls-cert", p.pem, "--tls-key", p.pem)
	}
	return args, nil
}

// selfArgs are those of a peer that is this program.
func selfArgs(command string) func(string, ports) ([]string, error) {
	return func(_ string, p ports) ([]string, error) {
		args := []string{command, p.h1, p.backend}
		if p.secure {
			args = append(args, p.pem)
		}
		return args, nil
	}
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
// should favour one. One that is called with TLS and without is two processes. In the scenario of the bridge, the backend
// only speaks gRPC, and is called in JSON alone.
func startPeers(ctx context.Context, dir, scenario string, kinds []peerKind, protocols []string, a *ask) (_ *peerSet, err error) {
	s := &peerSet{processes: processes{dir: dir}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	addrs, err := freePorts(loopback, 1+4*len(kinds))
	if err != nil {
		return nil, err
	}
	trusted, err := certificate()
	if err != nil {
		return nil, err
	}
	p := ports{backend: addrs[0], service: strings.Split(a.path(), "/")[1], pem: filepath.Join(dir, "proxy.pem")}
	if err := os.WriteFile(p.pem, trusted.pem, 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	direct := &peer{scenario: scenario, name: peerDirect, addr: everywhere(p.backend), ask: a}
	backend := []string{holdlineBinary(dir), "service", "sum", "--listen", p.backend}
	switch {
	case scenario == scenarioBridged:
		direct.addr = map[string]string{protocolGRPC: p.backend}
		backend = []string{self, grpcServiceCommand, p.backend}
	case p.service == echoService:
		backend = []string{self, echoCommand, p.backend}
	}
	if _, err := s.start("backend", backend[0], backend[1:]...); err != nil {
		return nil, err
	}
	if err := s.await(ctx, direct); err != nil {
		return nil, err
	}
	for _, i := range rand.Perm(2 * len(kinds)) {
		k := kinds[i/2]
		p.secure = i%2 == 1
		switch {
		case !slices.ContainsFunc(protocols, func(name string) bool { return isSecure(name) == p.secure }):
		case p.secure && (k.name == peerDirect || k.name == peerCaddy): // they have no TLS here
		case k.name == peerDirect:
			s.peers = append(s.peers, direct)
		default:
			p.h1, p.h2 = addrs[1+2*i], addrs[2+2*i]
			if err := s.add(ctx, scenario, k, p, a); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// add starts a peer and waits until it passes calls on.
func (s *peerSet) add(ctx context.Context, scenario string, k peerKind, p ports, a *ask) error {
	dir, err := os.MkdirTemp(s.dir, k.name)
	if err != nil {
		return err
	}
	args, err := k.args(dir, p)
	if err != nil {
		return err
	}
	started, err := s.start(k.name, k.binary, args...)
	if err != nil {
		return err
	}
	if k.shared {
		p.h2 = p.h1
	}
	proxy := &peer{scenario: scenario, name: k.name, ask: a, addr: map[string]string{protocolConnect: p.h1, protocolGRPC: p.h2}}
	switch {
	case scenario == scenarioBridged:
		delete(proxy.addr, protocolGRPC)
	case p.secure:
		proxy.addr = map[string]string{protocolConnectTLS: p.h1, protocolGRPCTLS: p.h2}
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
