package server_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdline/internal/server"
)

// withAdmin runs a server with an admin listener, and returns the address of that listener.
func withAdmin(t *testing.T, addr string) (admin string, stop func()) {
	t.Helper()
	s, err := server.Listen(server.Config{
		Addr: "127.0.0.1:0", Handler: http.NotFoundHandler(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), AdminAddr: addr, Metrics: server.NewMetrics(),
		Operators: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "operators: "+r.URL.Path) }),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return s.AdminAddr(), stop
}

// Requests of operators are served. Requests that a proxy passed on or another page sent are refused.
func TestAdminRefusesForeignRequests(t *testing.T) {
	t.Parallel()
	admin, _ := withAdmin(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(admin)
	for _, c := range []struct {
		host    string
		headers string
		want    int
	}{
		{admin, "", 200},
		{"localhost:" + port, "", 200},
		{"LOCALHOST", "", 200},
		{"[::1]:" + port, "", 200},
		{"127.9.9.9", "", 200},
		{admin, "Origin: http://" + admin, 200},
		{admin, "Sec-Fetch-Site: same-origin", 200},
		{admin, "Sec-Fetch-Site: none", 200},
		{"page.example:" + port, "", 403},
		{"page.example", "Origin: http://page.example", 403},
		{"localhost.page.example", "", 403},
		{"127.0.0.1.page.example:" + port, "", 403},
		{"192.0.2.1:" + port, "", 403},
		{"[::ffff:192.0.2.1]:" + port, "", 403},
		{"", "", 403},
		{admin, "Origin: http://localhost:" + port, 403},
		{admin, "Origin: https://" + admin, 403},
		{admin, "Origin: null", 403},
		{admin, "Origin: http://" + admin + "\r\nOrigin: https://page.example", 403},
		{admin, "Sec-Fetch-Site: cross-site", 403},
		{admin, "Sec-Fetch-Site: same-site", 403},
		{admin, "Forwarded: for=192.0.2.1", 403},
		{admin, "X-Forwarded-For: 127.0.0.1", 403},
		{admin, "x-forwarded-host:", 403},
		{admin, "Via: 1.1 proxy", 403},
		{admin, "X-Real-IP: 127.0.0.1", 403},
	} {
		for _, path := range []string{"/mom.v1.QueueService/PauseQueue", "/metrics", "/debug/pprof/cmdline", "/grpc.health.v1.Health/Check"} {
			conn := dial(t, admin)
			_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: "+c.host+"\r\n")
			if c.headers != "" {
				_, _ = io.WriteString(conn, c.headers+"\r\n")
			}
			_, _ = io.WriteString(conn, "\r\n")
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != c.want {
				t.Errorf("%s with Host %q and %q: got %d, want %d", path, c.host, c.headers, res.StatusCode, c.want)
			}
			_ = res.Body.Close()
		}
	}
	if body, status := get(t, &http.Transport{}, "http://"+admin+"/arithmetic.v1.SumService/Sum"); status != http.StatusNotFound || !strings.Contains(body, "admin listener") {
		t.Errorf("a call: %d %s, want 404", status, body)
	}
}

// The unix socket has mode 0600. A socket that a killed server left behind is replaced; a socket that is in
// use is not.
func TestAdminOnASocket(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("", "holdline") //nolint:usetesting // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	path := filepath.Join(folder, "admin")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close()
	admin, stop := withAdmin(t, "unix:"+path)
	if admin != "unix:"+path {
		t.Errorf("it listens on %s, want unix:%s", admin, path)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v, want 0600", info.Mode(), err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	if body, status := get(t, transport, "http://localhost/v1/tasks/x"); status != http.StatusOK || body != "operators: /v1/tasks/x" {
		t.Errorf("got %d %s", status, body)
	}
	if body, status := get(t, transport, "http://page.example/metrics"); status != http.StatusForbidden {
		t.Errorf("with another Host: got %d %s, want 403", status, body)
	}
	if _, err := server.Listen(server.Config{Addr: "127.0.0.1:0", Handler: http.NotFoundHandler(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), AdminAddr: "unix:" + path}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second server: %v, want that it is in use", err)
	}
	transport.CloseIdleConnections()
	stop()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}
