package redistest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdline/internal/freeport"
)

const (
	masters = 3
	slots   = 16384
)

// Cluster is a Redis Cluster of three masters with a replica each.
type Cluster struct{ Nodes []*Server }

// NewCluster starts a cluster for one test. A replica replaces a dead master within seconds.
func NewCluster(tb testing.TB) *Cluster {
	tb.Helper()
	return newCluster(tb, func() {}, nil, "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0")
}

// NewClockedCluster starts a cluster with a clock that the test sets. No node is ever taken for dead when the
// clock jumps.
func NewClockedCluster(tb testing.TB, start time.Time) (*Cluster, *Clock) {
	tb.Helper()
	clock, env := fakeClock(tb, start)
	const never = "1000000000000" // ms; longer than many jumps of the clock
	tick := func() {              // nodes begin to serve after two seconds of this clock
		start = start.Add(100 * time.Millisecond)
		clock.Set(tb, start)
	}
	c := newCluster(tb, tick, env, "--cluster-node-timeout", never, "--repl-timeout", "1000000000", "--enable-debug-command", "local")
	for _, node := range c.Nodes {
		node.expireLazily(tb)
	}
	return c, clock
}

func newCluster(tb testing.TB, tick func(), env []string, options ...string) *Cluster {
	tb.Helper()
	c := &Cluster{}
	for range 2 * masters {
		bus := freeport.Port(tb)
		c.Nodes = append(c.Nodes, newTCP(tb, env, append([]string{
			"--cluster-enabled", "yes", "--cluster-port", bus, "--repl-diskless-sync-delay", "0",
		}, options...)...))
		c.Nodes[0].Ask(tb, "CLUSTER", "MEET", "127.0.0.1", c.Nodes[len(c.Nodes)-1].port, bus)
	}
	for i, node := range c.Nodes[:masters] {
		node.Ask(tb, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(slots*i/masters), strconv.Itoa(slots*(i+1)/masters-1))
	}
	for _, node := range c.Nodes {
		node.await(tb, "a node knows the others", func() bool {
			tick()
			return node.says("cluster_known_nodes:6", "CLUSTER", "INFO")
		})
	}
	for i, node := range c.Nodes[masters:] {
		master := c.Nodes[i].Ask(tb, "CLUSTER", "MYID")
		node.Ask(tb, "CLUSTER", "REPLICATE", master)
	}
	for i, node := range c.Nodes {
		node.await(tb, "the cluster is there", func() bool {
			tick()
			nodes, err := node.ask("CLUSTER", "NODES")
			return err == nil && strings.Count(nodes, "slave") == masters && node.says("cluster_state:ok", "CLUSTER", "INFO")
		})
		if i >= masters {
			node.awaitReplica(tb)
		}
	}
	return c
}

// URL names all nodes, even those that are down.
func (c *Cluster) URL() string {
	url := "redis://" + c.Nodes[0].Addr()
	for i, node := range c.Nodes[1:] {
		url += fmt.Sprintf("%caddr=%s", "?&"[min(i, 1)], node.Addr())
	}
	return url
}

// Master returns the node that serves a key, or nil if there is none at the moment.
func (c *Cluster) Master(key string) *Server {
	for _, node := range c.Nodes {
		// The other nodes reply with an error, which names this node.
		if reply, err := node.ask("EXISTS", key); err == nil && !strings.HasPrefix(reply, "-") {
			return node
		}
	}
	return nil
}

// Replicate waits until every replica has all data of its master.
func (c *Cluster) Replicate(tb testing.TB) {
	tb.Helper()
	for _, node := range c.Nodes {
		node.Replicate(tb)
	}
}

// newTCP starts a server that listens on a port of 127.0.0.1 too.
func newTCP(tb testing.TB, env []string, options ...string) *Server {
	tb.Helper()
	port := freeport.Port(tb)
	s := startFor(tb, env, append([]string{"--bind", "127.0.0.1", "--port", port}, options...))
	s.port = port
	return s
}

// Replicate waits until the replicas of a master have all its data. On any other server it does not wait.
func (s *Server) Replicate(tb testing.TB) {
	tb.Helper()
	s.await(tb, "the replicas have it all", func() bool {
		reply, err := s.ask("INFO", "replication")
		if err != nil {
			return false
		}
		info := map[string]string{}
		for line := range strings.SplitSeq(reply, "\r\n") {
			name, value, _ := strings.Cut(line, ":")
			info[name] = value
		}
		for i := 0; info["role"] == "master"; i++ {
			replica, ok := info["slave"+strconv.Itoa(i)]
			if !ok {
				break
			}
			if !strings.Contains(replica, "offset="+info["master_repl_offset"]+",") {
				return false
			}
		}
		return true
	})
}

// Addr is host and port of a server that has a port.
func (s *Server) Addr() string { return "127.0.0.1:" + s.port }

// awaitReplica waits until the server has its master's data.
func (s *Server) awaitReplica(tb testing.TB) {
	tb.Helper()
	s.await(tb, "a replica has its master's data", func() bool {
		return s.says("master_link_status:up", "INFO", "replication")
	})
}

func (s *Server) await(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	deadline, tick := time.After(patience), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("never: %s: %s", what, s.log())
		}
	}
}
