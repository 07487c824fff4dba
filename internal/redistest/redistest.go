// Package redistest gives tests a Redis: a miniredis, or a real redis-server or valkey-server, which can be
// killed.
package redistest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"holdline/internal/child"
)

// patience is how long to wait for a server before the test fails.
const patience = 20 * time.Second

// Server is a redis-server process that listens on a unix socket and writes an append-only file.
type Server struct {
	dir  string
	port string // empty: the socket only
	args []string
	env  []string // in addition to the environment of the tests
	cmd  *exec.Cmd
	gone <-chan struct{}
}

// New starts a server for one test. Options are added to its command line, such as "--appendonly", "no". The
// server ends with the test.
func New(tb testing.TB, options ...string) *Server {
	tb.Helper()
	return startFor(tb, nil, options)
}

func startFor(tb testing.TB, env, options []string) *Server {
	tb.Helper()
	s, err := start(env, options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.remove)
	return s
}

// URL is the address of the server. It stays the same while the server is down.
func (s *Server) URL() string { return "unix://" + s.socket() }

// Dir is the folder with the server's files: the append-only file, in appendonlydir, and snapshots.
func (s *Server) Dir() string { return s.dir }

// Kill ends the server as a crash does (SIGKILL).
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	s.signal(tb, syscall.SIGKILL)
	<-s.gone
}

// Restart starts a server that was killed, with the same files, and waits until it has read them.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	if err := s.run(); err != nil {
		tb.Fatal(err)
	}
}

// Start starts a server that was killed, and does not wait until it has read its files.
func (s *Server) Start(tb testing.TB) {
	tb.Helper()
	if err := s.launch(); err != nil {
		tb.Fatal(err)
	}
}

// Freeze stops the server's process and closes no connection: the server is silent until Thaw.
func (s *Server) Freeze(tb testing.TB) {
	tb.Helper()
	FreezeProcess(tb, s.cmd.Process)
}

// FreezeProcess does the same to another child process.
func FreezeProcess(tb testing.TB, p *os.Process) {
	tb.Helper()
	err := p.Signal(syscall.SIGSTOP)
	if err == nil {
		err = awaitStopped(p)
	}
	if err != nil {
		tb.Fatalf("freeze process %d: %v", p.Pid, err)
	}
}

// Thaw ends a Freeze.
func (s *Server) Thaw(tb testing.TB) {
	tb.Helper()
	s.signal(tb, syscall.SIGCONT)
}

func (s *Server) signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		tb.Fatalf("signal redis-server: %v", err)
	}
}

// The server that all tests of a binary share.
var shared struct {
	sync.Mutex
	server *Server
	main   bool
}

// Main runs the tests of a binary, stops the server that they shared, and exits. Call it in TestMain. If
// check is not nil, it runs last: it can look for what the tests left behind, such as goroutines, and returns
// the exit code.
func Main(m *testing.M, check func(code int) int) {
	shared.main = true
	code := m.Run()
	shared.Lock()
	if shared.server != nil {
		shared.server.remove()
	}
	shared.Unlock()
	if check != nil {
		code = check(code)
	}
	os.Exit(code)
}

// Start returns the URL of the server that all tests of this binary share. The first call starts the server.
// Give your keys a prefix, because other tests use the server at the same time.
func Start(tb testing.TB) (url string) {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.main {
		tb.Fatal("redistest.Start needs a TestMain that calls redistest.Main, which ends the server")
	}
	if shared.server == nil {
		server, err := start(nil, nil)
		if err != nil {
			tb.Fatal(err)
		}
		shared.server = server
	}
	return shared.server.URL()
}

// Mini returns the URL of a miniredis that ends with the test. Its keys expire by the real clock.
func Mini(tb testing.TB) (url string) {
	tb.Helper()
	return serve(tb, miniredis.NewMiniRedis())
}

func start(env, options []string) (*Server, error) {
	// We do not use tb.TempDir, because the path of a socket must be short.
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, env: env}
	s.args = append([]string{
		"--port", "0", "--unixsocket", s.socket(), "--dir", dir, "--logfile", filepath.Join(dir, "log"),
		"--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no",
	}, options...)
	if err := s.run(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

func (s *Server) socket() string { return filepath.Join(s.dir, "redis.sock") }

// run starts the process and waits until it answers.
func (s *Server) run() error {
	if err := s.launch(); err != nil {
		return err
	}
	return s.awaitReady()
}

func (s *Server) launch() error {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		path, err = exec.LookPath("valkey-server")
	}
	if err != nil {
		return fmt.Errorf("these tests need redis-server or valkey-server in PATH (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis): %w", err)
	}
	s.cmd = exec.Command(path, s.args...)
	s.cmd.Env = append(os.Environ(), s.env...)
	if s.gone, err = child.Start(s.cmd, syscall.SIGKILL); err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	return nil
}

func (s *Server) awaitReady() error {
	deadline, tick := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !s.answers() {
		select {
		case <-tick.C:
		case <-s.gone:
			return fmt.Errorf("redis-server ended: %s", s.log())
		case <-deadline:
			return fmt.Errorf("redis-server does not answer: %s", s.log())
		}
	}
	return nil
}

// answers says whether the server is up and has read its files.
func (s *Server) answers() bool {
	reply, err := s.ask("PING")
	return err == nil && reply == "PONG"
}

func (s *Server) log() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(text[max(0, len(text)-2000):])
}

func (s *Server) remove() {
	_ = s.cmd.Process.Kill() // it may be dead already
	<-s.gone
	_ = os.RemoveAll(s.dir)
}
