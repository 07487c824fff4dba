package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The parts of the system, as in the report.
const (
	partGateway = "gateway"
	partMOM     = "mom"
	partRedis   = "redis"
	partService = "service"
)

// Keys of the service's queue, which has one shard: open tasks and ended ones.
const (
	keyOpen  = "hl:{" + service + "#0}:ttl"
	keyEnded = "hl:{" + service + "#0}:gone"
)

// system is Holdline with its stored path: a gateway, a MOM and a Redis. The
// service is down until startService.
type system struct {
	processes
	gateway string // its address
	backend string // where the service is when it is up
	store   *redisConn
	service *process
	clocks  clocks // of what runs
}

// startSystem starts gateway and MOM of a binary and Redis, all new, and waits until they
// store. It has more routes besides that of the service.
func startSystem(ctx context.Context, dir, binary string, more ...string) (_ *system, err error) {
	if onPath("redis-server") == "" {
		return nil, errors.New("redis-server is not on this machine; -scenario direct needs none")
	}
	// A socket's path must be short, and what was appended last time must not be read.
	own, err := os.MkdirTemp(dir, "s")
	if err != nil {
		return nil, err
	}
	s := &system{processes: processes{dir: own}, clocks: clocks{}}
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
	socket := filepath.Join(own, "redis.sock")
	routes := []string{"--route", service + "=http://" + s.backend}
	for _, route := range more {
		routes = append(routes, "--route", route)
	}
	for _, part := range []struct {
		name, binary string
		args         []string
	}{
		{partRedis, onPath("redis-server"), []string{
			"--port", "0", "--unixsocket", socket, "--dir", own, "--daemonize", "no", "--save", "",
			"--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
		}},
		{partMOM, binary, append([]string{"mom", "--listen", addrs[2], "--redis", "unix://" + socket}, routes...)},
		{partGateway, binary, append([]string{"gateway", "--listen", s.gateway, "--mom", "http://" + addrs[2]}, routes...)},
	} {
		p, err := s.start(part.name, part.binary, part.args...)
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

// peer is the system as something to measure.
func (s *system) peer(scenario, name string, a *ask) *peer {
	return &peer{scenario: scenario, name: name, addr: everywhere(s.gateway), ask: a, clocks: s.clocks}
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
}

// flush forgets all tasks, so that queues don't grow from cell to cell. The name of the store
// stays: without it the MOM would take no calls for a moment.
func (s *system) flush() error {
	_, err := s.store.do(`EVAL "for _, key in ipairs(redis.call('KEYS', 'hl:{*')) do redis.call('DEL', key) end return 0" 0`)
	return err
}

// expect wants that many tasks in one of the keys.
func (s *system) expect(key string, tasks int) error {
	got, err := s.store.do("ZCARD " + key)
	if err == nil && got != tasks {
		err = fmt.Errorf("%d tasks in %s, want %d", got, key, tasks)
	}
	return err
}

// awaitTasks waits until there are that many tasks in one of the keys.
func (s *system) awaitTasks(ctx context.Context, key string, tasks int) error {
	for {
		err := s.expect(key, tasks)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(5 * time.Millisecond): // little for Redis to do
		}
	}
}

// close ends everything.
func (s *system) close() {
	if s.store != nil {
		_ = s.store.conn.Close()
	}
	s.processes.close()
	_ = os.RemoveAll(s.dir) // or with what it is in
}

// redisConn asks Redis for numbers, in inline commands.
type redisConn struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialRedis(ctx context.Context, socket string) (*redisConn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	return &redisConn{conn, bufio.NewReader(conn)}, nil
}

// do returns the number that is answered, 0 for OK.
func (c *redisConn) do(command string) (int, error) {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write([]byte(command + "\r\n")); err != nil {
		return 0, err
	}
	line, err := c.in.ReadString('\n')
	if err != nil || line == "+OK\r\n" {
		return 0, err
	}
	number, ok := strings.CutPrefix(line, ":")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if !ok || err != nil {
		return 0, fmt.Errorf("redis, %s: %q", command, line)
	}
	return n, nil
}
