package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The parts of the system, as in the report.
const (
	partGateway = "gateway"
	partMOM     = "mom"
	partRedis   = "redis"
	partService = "service"
)

// build is a binary of Holdline, and what is added to the names of its rows.
type build struct{ suffix, binary string }

// suffixOther marks rows of the other build.
const suffixOther = ", other"

// builds are those whose stored path is measured: that of this checkout, and the other one if there is one.
func (s *settings) builds(dir string) []build {
	all := []build{{"", holdlineBinary(dir)}}
	if s.other != "" {
		all = append(all, build{suffixOther, s.other})
	}
	return all
}

// deployment is what a system is made of.
type deployment struct {
	build
	routes []string // besides that of the service
}

// system is Holdline with its stored path: a gateway, a MOM and a Redis. The
// service is down until startService.
type system struct {
	processes
	build
	gateway string // its address
	backend string // where the service is when it is up
	mom     *operator
	store   *redisConn
	service *process // nil while it is down
	clocks  clocks   // of what runs
}

// startSystems starts a system of each build. All of them run at once, so that they can take turns: one that is not
// called costs the others nearly nothing.
func (s *settings) startSystems(ctx context.Context, dir string) (all []*system, err error) {
	for _, b := range s.builds(dir) {
		system, err := startSystem(ctx, dir, deployment{build: b})
		if err != nil {
			closeSystems(all)
			return nil, err
		}
		all = append(all, system)
	}
	return all, nil
}

func closeSystems(all []*system) {
	for _, s := range all {
		s.close()
	}
}

// The limits of a queue are so large that no measurement meets them.
const (
	maxQueued = "10000000"
	maxBytes  = "10000000000"
)

// startSystem starts gateway, MOM and Redis, all new, and waits until they store.
func startSystem(ctx context.Context, dir string, d deployment) (_ *system, err error) {
	// A socket's path must be short, and what was appended last time must not be read.
	own, err := os.MkdirTemp(dir, "s")
	if err != nil {
		return nil, err
	}
	s := &system{processes: processes{dir: own}, build: d.build, clocks: clocks{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	addrs, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	s.gateway, s.backend = addrs[0], addrs[1]
	socket, err := s.startRedis()
	if err != nil {
		return nil, err
	}
	s.clocks[partRedis] = []int{s.last().pid()}
	routes := []string{"--route", service + "=http://" + s.backend}
	for _, route := range d.routes {
		routes = append(routes, "--route", route)
	}
	s.mom = newOperator(filepath.Join(own, "mom.sock"))
	for _, part := range []struct {
		name string
		args []string
	}{
		{partMOM, []string{
			"mom", "--listen", addrs[2], "--admin", "unix:" + s.mom.socket, "--redis", "unix://" + socket,
			"--max-queued", maxQueued, "--max-bytes", maxBytes,
		}},
		{partGateway, []string{"gateway", "--listen", s.gateway, "--mom", "http://" + addrs[2]}},
	} {
		p, err := s.start(part.name, d.binary, append(part.args, routes...)...)
		if err != nil {
			return nil, err
		}
		s.clocks[part.name] = []int{p.pid()}
	}
	if err := s.await(ctx, s.peer("", partGateway, askStored)); err != nil {
		return nil, err
	}
	if s.store, err = dialRedis(ctx, socket); err != nil {
		return nil, err
	}
	return s, s.flush()
}

// startRedis starts a Redis that keeps what it is told as most do: it appends to a file, with a sync every second. It
// returns its socket.
func (s *processes) startRedis() (socket string, err error) {
	binary := onPath("redis-server")
	if binary == "" {
		return "", errors.New("redis-server is not on this machine; -scenario direct needs none")
	}
	socket = filepath.Join(s.dir, "redis.sock")
	_, err = s.start(partRedis, binary,
		"--port", "0", "--unixsocket", socket, "--dir", s.dir, "--daemonize", "no", "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction")
	return socket, err
}

// peer is the system as something to measure.
func (s *system) peer(scenario, name string, a *ask) *peer {
	return &peer{scenario: scenario, name: name + s.suffix, addr: everywhere(s.gateway), ask: a, clocks: s.clocks}
}

// everywhere is an address that speaks every protocol, without TLS.
func everywhere(addr string) map[string]string {
	addrs := map[string]string{}
	for _, protocol := range protocolNames(false) {
		addrs[protocol] = addr
	}
	return addrs
}

// startService starts the service and returns when it has answered a call.
func (s *system) startService(ctx context.Context) error {
	var err error
	if s.service, err = s.start(partService, holdlineBinary(filepath.Dir(s.dir)), "service", "sum", "--listen", s.backend); err != nil {
		return err
	}
	s.clocks[partService] = []int{s.service.pid()}
	return s.service.answers(ctx, protocolConnect, s.backend, askSum)
}

// stopService is an outage: the service does not say that it ends.
func (s *system) stopService() {
	delete(s.clocks, partService)
	s.service.kill()
	s.service = nil
}

// flush forgets all tasks, so that queues don't grow from cell to cell. The name of the store
// stays: without it the MOM would take no calls for a moment.
func (s *system) flush() error { return s.store.forget("hl:{*") }

// expect wants that many tasks of the service that have not ended. Builds may keep tasks under different keys, so it
// asks the MOM.
func (s *system) expect(ctx context.Context, of string, tasks int) error {
	got, err := s.mom.open(ctx, of)
	if err == nil && got != tasks {
		err = fmt.Errorf("%d open tasks of %s, want %d", got, of, tasks)
	}
	return err
}

// awaitTasks waits until there are that many.
func (s *system) awaitTasks(ctx context.Context, tasks int) error {
	for {
		err := s.expect(ctx, service, tasks)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(lookPause):
		}
	}
}

// lookPause is that between two looks at how far a replay is: little to do for MOM and Redis.
const lookPause = 20 * time.Millisecond

// close ends everything.
func (s *system) close() {
	if s.store != nil {
		_ = s.store.conn.Close()
	}
	s.processes.close()
	_ = os.RemoveAll(s.dir) // or with what it is in
}
