package server_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/grpchealth"

	"holdline/internal/server"
)

// descriptorsEnv, when set, makes this test binary run few instead of the tests.
const descriptorsEnv = "SERVER_TEST_DESCRIPTORS"

// few is a server with few file descriptors. It serves until its standard input ends.
func few() {
	const most = 48
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: most, Max: most})
	mux := server.Mux(connect.NewServer(), grpchealth.NewStaticChecker())
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	s, err := server.Listen(server.Config{
		Addr: "127.0.0.1:0", Handler: mux, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		MetricsAddr: "127.0.0.1:0", Metrics: server.NewMetrics(),
	})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	fmt.Println(s.Addr(), s.MetricsAddr())
	if err := s.Run(ctx); err != nil {
		panic(err)
	}
}

// A server that has no file descriptors left still answers health checks and serves its metrics. It logs
// that it has none left, and that it lets in fewer connections than it was told to.
func TestNoDescriptors(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), descriptorsEnv+"=1")
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	child.Stderr = &log
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var addr, metrics string
	if _, err := fmt.Fscan(bufio.NewReader(stdout), &addr, &metrics); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		dial(t, addr)
	}
	for range 5 {
		if !healthy(t, addr) {
			t.Error("a server without descriptors is not healthy")
		}
	}
	if _, status := get(t, &http.Transport{}, "http://"+metrics+"/metrics"); status != http.StatusOK {
		t.Errorf("metrics: status %d, want 200", status)
	}
	_ = stdin.Close()
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
	if got := bytes.Count(log.Bytes(), []byte("no file descriptors left")); got < 1 || got > 2 { // per listener
		t.Errorf("logged %d times what it lacks, want once:\n%s", got, &log)
	}
	if want := []byte("limit=36 asked=10000"); bytes.Count(log.Bytes(), want) != 1 {
		t.Errorf("did not log %s, three quarters of 48:\n%s", want, &log)
	}
}
