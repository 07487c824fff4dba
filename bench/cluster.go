package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

const (
	clusterMasters = 3
	clusterSlots   = 16384
)

// startCluster starts a Redis Cluster of three masters with a replica each, all of them as the one Redis is started
// otherwise, and returns the flags of a MOM that name it.
func (s *system) startCluster(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	addrs, err := freePorts(s.host, 4*clusterMasters)
	if err != nil {
		return nil, err
	}
	var nodes []*redisConn
	defer func() {
		for _, replica := range nodes[min(clusterMasters, len(nodes)):] {
			_ = replica.conn.Close()
		}
	}()
	for i := range 2 * clusterMasters {
		node, err := s.startNode(ctx, addrs[2*i], addrs[2*i+1])
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
		if i < clusterMasters {
			s.stores = nodes
			slots := fmt.Sprintf("CLUSTER ADDSLOTSRANGE %d %d", clusterSlots*i/clusterMasters, clusterSlots*(i+1)/clusterMasters-1)
			if _, err := node.do(slots); err != nil {
				return nil, err
			}
		}
		if _, err := nodes[0].do("CLUSTER MEET " + strings.ReplaceAll(addrs[2*i], ":", " ") + " " + port(addrs[2*i+1])); err != nil {
			return nil, err
		}
	}
	for _, node := range nodes {
		if err := node.await(ctx, "CLUSTER INFO", "cluster_known_nodes:6"); err != nil {
			return nil, err
		}
	}
	for i, replica := range nodes[clusterMasters:] {
		master, err := nodes[i].text("CLUSTER MYID")
		if err != nil {
			return nil, err
		}
		if _, err := replica.do("CLUSTER REPLICATE " + master); err != nil {
			return nil, err
		}
	}
	for i, node := range nodes {
		wanted := []string{"CLUSTER INFO", "cluster_state:ok"}
		if i >= clusterMasters {
			wanted = append(wanted, "INFO replication", "master_link_status:up")
		}
		for ; len(wanted) > 0; wanted = wanted[2:] {
			if err := node.await(ctx, wanted[0], wanted[1]); err != nil {
				return nil, err
			}
		}
	}
	url := "redis://" + addrs[0]
	for i := 1; i < 2*clusterMasters; i++ {
		url += fmt.Sprintf("%caddr=%s", "?&"[min(i-1, 1)], addrs[2*i])
	}
	return []string{"--redis-cluster", "--redis", url}, nil
}

// startNode starts a node of a cluster, which is its own cluster at first.
func (s *system) startNode(ctx context.Context, addr, bus string) (*redisConn, error) {
	dir, err := os.MkdirTemp(s.dir, "n")
	if err != nil {
		return nil, err
	}
	socket, err := s.startRedis(dir, "--bind", s.host, "--cluster-announce-ip", s.host, "--port", port(addr), "--cluster-enabled", "yes", "--cluster-port", port(bus),
		"--repl-diskless-sync-delay", "0")
	if err != nil {
		return nil, err
	}
	s.clocks[partRedis] = append(s.clocks[partRedis], s.last().pid())
	return dialRedis(ctx, socket)
}

func port(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// await asks until the text that is answered has some words.
func (c *redisConn) await(ctx context.Context, command, words string) error {
	for {
		text, err := c.text(command)
		if err != nil || strings.Contains(text, words) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: no %q in %q", ctx.Err(), words, text)
		case <-time.After(lookPause):
		}
	}
}
