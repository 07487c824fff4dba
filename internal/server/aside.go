package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"

	"holdline/internal/logonce"
)

// maxAside is the connection limit of each listener that is not for callers.
const maxAside = 1000

// unixPrefix begins the address of a unix socket.
const unixPrefix = "unix:"

// aside serves the metrics, or operators, on a listener that is not for callers.
type aside struct {
	name string
	http *http.Server
	ln   *listener
}

func listenAside(name, addr string, handler http.Handler, limits Limits, log *slog.Logger) (*aside, error) {
	ln, err := listenLimited(name, addr, maxAside, "nothing", logonce.New(log))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &aside{name: name, ln: ln, http: &http.Server{
		Handler: handler, Protocols: protocols,
		ReadHeaderTimeout: limits.HeaderTimeout, IdleTimeout: limits.IdleTimeout, MaxHeaderBytes: limits.HeaderBytes,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}, nil
}

// addr is the address of the listener; empty if a is nil.
func (a *aside) addr() string {
	switch {
	case a == nil:
		return ""
	case a.ln.Addr().Network() == "unix":
		return unixPrefix + a.ln.Addr().String()
	}
	return a.ln.Addr().String()
}

// run serves until ctx ends.
func (a *aside) run(ctx context.Context) error {
	defer a.ln.wait()
	defer context.AfterFunc(ctx, func() { _ = a.http.Close() })()
	if err := a.http.Serve(a.ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("%s on %s: %w", a.name, a.addr(), err)
	}
	return nil
}

// close closes the listener of a server that is never run. a may be nil.
func (a *aside) close() {
	if a != nil {
		_ = a.ln.Close()
	}
}

// listenUnix listens on a unix socket with mode 0600. It replaces a socket on which nobody listens, because
// a server that was killed leaves its socket behind.
func listenUnix(flag, path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		if used, err := net.Dial("unix", path); err == nil {
			_ = used.Close()
			return nil, &TakenError{unixPrefix + path, flag}
		}
		_ = os.Remove(path)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	return ln, nil
}
