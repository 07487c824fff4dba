package stack

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"

	"holdline/internal/child"
)

// embedded is a Redis of the stack's own: a redis-server or valkey-server child on a
// private socket, with its data in the state directory; or, where there is neither, one
// in this process, whose data ends with it.
type embedded struct {
	url  string
	lock *os.File // of the state directory
	// One of the two:
	child  *exec.Cmd
	inside *miniredis.Miniredis
	socket string // the child's, in a directory of its own
}

// redisStopTime is what a redis-server gets to write its data when it ends.
const redisStopTime = 10 * time.Second

func newEmbedded(state string) (*embedded, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		path, err = exec.LookPath("valkey-server")
	}
	if err != nil {
		inside := miniredis.NewMiniRedis()
		inside.ClockTTL(true)
		if err := inside.Start(); err != nil {
			return nil, fmt.Errorf("in-process redis: %w", err)
		}
		return &embedded{url: "redis://" + inside.Addr(), inside: inside}, nil
	}
	e := &embedded{}
	if err := e.claim(state); err != nil {
		return nil, err
	}
	// Not in the state directory: the path of a socket has 107 bytes at most.
	dir, err := os.MkdirTemp("", "holdline-")
	if err != nil {
		return nil, fmt.Errorf("redis socket: %w", err)
	}
	e.socket = filepath.Join(dir, "redis.sock")
	e.url = "unix://" + e.socket
	e.child = exec.Command(path, //nolint:noctx // ended in Run, with time to write
		"--port", "0", "--unixsocket", e.socket, "--unixsocketperm", "700",
		"--dir", state, "--logfile", filepath.Join(state, "redis.log"),
		"--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no")
	e.child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the terminal's Ctrl-C is not for it: it ends after the others
	return e, nil
}

// claim makes sure that no other process has its Redis in the same directory.
func (e *embedded) claim(state string) error {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("--state: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(state, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("--state: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return fmt.Errorf("state directory %s is in use by another holdline up; name another one with --state", state)
	}
	e.lock = lock
	return nil
}

// await returns when the child listens, or after some seconds.
func (e *embedded) await(ctx context.Context) {
	for tries := 500; e.child != nil && ctx.Err() == nil && tries > 0; tries-- {
		if conn, err := new(net.Dialer).DialContext(ctx, "unix", e.socket); err == nil {
			_ = conn.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Run runs the child until ctx ends, then lets it write what it has.
func (e *embedded) Run(ctx context.Context) error {
	defer e.close()
	if e.child == nil {
		<-ctx.Done()
		return nil
	}
	ended, err := child.Start(e.child, syscall.SIGTERM)
	if err != nil {
		return fmt.Errorf("start %s: %w", e.child.Path, err)
	}
	select {
	case <-ended:
		return fmt.Errorf("%s ended, its log is redis.log in the state directory: %v", filepath.Base(e.child.Path), e.child.ProcessState)
	case <-ctx.Done():
	}
	_ = e.child.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(redisStopTime):
		_ = e.child.Process.Kill()
		<-ended
	}
	return nil
}

// close releases what was claimed.
func (e *embedded) close() {
	if e == nil {
		return
	}
	if e.inside != nil {
		e.inside.Close()
	}
	if e.socket != "" {
		_ = os.RemoveAll(filepath.Dir(e.socket))
	}
	if e.lock != nil {
		_ = e.lock.Close()
	}
}
