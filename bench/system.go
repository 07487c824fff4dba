package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// deployment is what a system is made of. Its zero value is the usual one.
type deployment struct {
	build
	routes  []string // besides that of the service
	shards  int      // of the service's queue; 0: 1
	pairs   int      // of a gateway and its MOM; 0: 1
	cluster bool     // three masters of Redis with a replica each, instead of one Redis
}

// system is Holdline with its stored path: gateways, MOMs and a Redis. The
// service is down until startService.
type system struct {
	processes
	build
	// host is where all parts listen: an address of this machine that is likely to be used by nobody else. While the
	// service is down its port is free, and on an address that all use, the next server could get it.
	host     string
	gateways []string // their addresses
	backend  string   // where the service is when it is up
	moms     []*operator
	stores   []*redisConn // of all that can be written to
	service  *process     // nil while it is down
	clocks   clocks       // of what runs
}

// startSystems starts a system of each build. All of them run at once, so that they can take turns: one that is not
// called costs the others nearly nothing.
func (s *settings) startSystems(ctx context.Context, dir string, d deployment) (all []*system, err error) {
	for _, d.build = range s.builds(dir) {
		system, err := startSystem(ctx, dir, d)
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

// startSystem starts gateways, MOMs and Redis, all new, and waits until they store.
func startSystem(ctx context.Context, dir string, d deployment) (_ *system, err error) {
	// A socket's path must be short, and what was appended last time must not be read.
	own, err := os.MkdirTemp(dir, "s")
	if err != nil {
		return nil, err
	}
	s := &system{
		processes: processes{dir: own}, build: d.build, clocks: clocks{},
		host: fmt.Sprintf("127.%d.%d.%d", 1+rand.N(254), rand.N(256), 1+rand.N(254)),
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	store, err := s.startStore(ctx, d.cluster)
	if err != nil {
		return nil, err
	}
	pairs := max(d.pairs, 1)
	addrs, err := freePorts(s.host, 1+2*pairs)
	if err != nil {
		return nil, err
	}
	s.backend = addrs[0]
	routes := []string{"--route", fmt.Sprintf("%s=http://%s;shards=%d", service, s.backend, max(d.shards, 1))}
	for _, route := range d.routes {
		routes = append(routes, "--route", route)
	}
	for pair := range pairs {
		gateway, at := addrs[1+2*pair], addrs[2+2*pair]
		mom := newOperator(filepath.Join(own, fmt.Sprintf("mom%d.sock", pair)))
		s.gateways, s.moms = append(s.gateways, gateway), append(s.moms, mom)
		for _, part := range []struct {
			name string
			args []string
		}{
			{partMOM, append([]string{
				"mom", "--listen", at, "--admin", "unix:" + mom.socket, "--max-queued", maxQueued, "--max-bytes", maxBytes,
			}, store...)},
			{partGateway, []string{"gateway", "--listen", gateway, "--mom", "http://" + at}},
		} {
			p, err := s.start(part.name, d.binary, append(part.args, routes...)...)
			if err != nil {
				return nil, err
			}
			s.clocks[part.name] = append(s.clocks[part.name], p.pid())
		}
		if err := s.await(ctx, &peer{name: partGateway, addr: everywhere(gateway), ask: askStored}); err != nil {
			return nil, errors.Join(err, s.ended()) // a gateway that has no MOM says that it cannot store, and no more
		}
	}
	return s, s.flush()
}

// startStore starts what the tasks are kept in, and returns the flags of a MOM that say where.
func (s *system) startStore(ctx context.Context, cluster bool) ([]string, error) {
	if cluster {
		return s.startCluster(ctx)
	}
	socket, err := s.startRedis(s.dir, "--port", "0")
	if err != nil {
		return nil, err
	}
	s.clocks[partRedis] = []int{s.last().pid()}
	store, err := dialRedis(ctx, socket)
	if err != nil {
		return nil, err
	}
	s.stores = []*redisConn{store}
	return []string{"--redis", "unix://" + socket}, nil
}

// startRedis starts a Redis that keeps what it is told as most do: it appends to a file, with a sync every second. It
// returns its socket.
func (s *processes) startRedis(dir string, more ...string) (socket string, err error) {
	binary := onPath("redis-server")
	if binary == "" {
		return "", errors.New("redis-server is not on this machine; -scenario direct needs none")
	}
	socket = filepath.Join(dir, "redis.sock")
	_, err = s.start(partRedis, binary, append([]string{
		"--unixsocket", socket, "--dir", dir, "--daemonize", "no", "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
	}, more...)...)
	return socket, err
}

// peer is the system as something to measure.
func (s *system) peer(scenario, name string, a *ask) *peer {
	return &peer{scenario: scenario, name: name + s.suffix, addr: everywhere(s.gateways[0]), more: s.gateways[1:], ask: a, clocks: s.clocks}
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

// comeUp starts the service, and returns when calls pass to it: the gateway may have taken it for one that is down.
func (s *system) comeUp(ctx context.Context) error {
	if err := s.startService(ctx); err != nil {
		return err
	}
	return s.await(ctx, s.peer("", partGateway, askUnkeyed))
}

// stopService is an outage: the service does not say that it ends.
func (s *system) stopService() {
	delete(s.clocks, partService)
	s.service.kill()
	s.service = nil
}

// flush forgets all tasks, so that queues don't grow from cell to cell. The name of the store
// stays: without it the MOM would take no calls for a moment.
func (s *system) flush() error {
	for _, store := range s.stores {
		if err := store.forget("hl:{*"); err != nil {
			return err
		}
	}
	return nil
}

// stored is how many calls of the service were made tasks since the start.
func (s *system) stored(ctx context.Context) (sum int, err error) {
	for _, mom := range s.moms {
		n, err := mom.stored(ctx)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// expect wants that many tasks of the service that have not ended. Builds may keep tasks under different keys, so it
// asks the MOM.
func (s *system) expect(ctx context.Context, of string, tasks int) error {
	got, err := s.moms[0].open(ctx, of)
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
	for _, store := range s.stores {
		_ = store.conn.Close()
	}
	s.processes.close()
	_ = os.RemoveAll(s.dir) // or with what it is in
}
