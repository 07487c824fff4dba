package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdline/internal/freeport"
)

// SentinelMaster is the name of the master in the configuration of a Sentinel.
const SentinelMaster = "holdline"

// Sentinel is a master and a replica, and a Redis Sentinel that watches them.
type Sentinel struct {
	Master, Replica *Server // their roles at the start
	sentinel        *Server
}

// NewSentinel starts all three for one test. The replica replaces a dead master within seconds.
func NewSentinel(tb testing.TB) *Sentinel {
	tb.Helper()
	s := &Sentinel{Master: newTCP(tb, nil)}
	s.Replica = newTCP(tb, nil, "--replicaof", "127.0.0.1", s.Master.port)
	s.Replica.awaitReplica(tb)
	var err error
	if s.sentinel, err = startSentinel(s.Master.port, freeport.Port(tb)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.sentinel.remove)
	s.sentinel.await(tb, "the sentinel knows the replica", func() bool {
		return s.sentinel.says("status=ok,address=127.0.0.1:"+s.Master.port+",slaves=1", "INFO", "sentinel")
	})
	return s
}

// URL names the sentinel.
func (s *Sentinel) URL() string { return "redis://" + s.sentinel.Addr() }

// HandOver makes the replica the master, and the master its replica.
func (s *Sentinel) HandOver(tb testing.TB) {
	tb.Helper()
	s.sentinel.await(tb, "the sentinel finds the replica good enough", func() bool {
		reply, err := s.sentinel.ask("SENTINEL", "FAILOVER", SentinelMaster)
		return err == nil && (reply == "OK" || strings.HasPrefix(reply, "-INPROG"))
	})
	s.Replica.await(tb, "the replica is the master", func() bool {
		return s.Replica.says("role:master", "INFO", "replication")
	})
}

// startSentinel starts a sentinel. The sentinel writes its state into its configuration file.
func startSentinel(master, port string) (*Server, error) {
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, port: port}
	file := filepath.Join(dir, "sentinel.conf")
	config := fmt.Sprintf(`bind 127.0.0.1
port %[1]s
unixsocket %[2]s
dir %[3]s
logfile %[3]s/log
sentinel monitor %[4]s 127.0.0.1 %[5]s 1
sentinel down-after-milliseconds %[4]s 500
sentinel failover-timeout %[4]s 2000
`, port, s.socket(), dir, SentinelMaster, master)
	s.args = []string{file, "--sentinel"}
	if err = os.WriteFile(file, []byte(config), 0o600); err == nil {
		err = s.run()
	}
	if err != nil {
		_ = os.RemoveAll(dir)
	}
	return s, err
}
