package e2e

import (
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"holdline/internal/freeport"
)

// Whoever hears that the address of the admin listener is taken can choose another one.
func TestUpWithAdminTaken(t *testing.T) {
	t.Parallel()
	bin, first, admin := build(t), freeport.Ports(t, 12), freeport.Addr(t)
	taken, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first+11)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	flags := []string{"up", "--ports", strconv.Itoa(first), "--state", filepath.Join(t.TempDir(), "state")}
	if got := holdline(t, "", flags...); got.status != 1 || !strings.Contains(got.stderr, "choose another one with --admin") {
		t.Errorf("got %+v, want the flag that chooses another one", got)
	}
	start(t, bin, append(flags, "--admin", admin)...)
	eventually(t, func() bool {
		res, err := http.Get("http://" + admin + "/metrics")
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil
	}, "the admin listener is at %s", admin)
}

// A service of somebody else's joins `up`, beside or in place of those it is shipped with, on
// ports that were asked for; who asks for ports that are taken hears which flag moves them.
func TestUpWithRoutes(t *testing.T) {
	t.Parallel()
	bin, first := build(t), freeport.Ports(t, 12)
	at := func(place int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(first+place)) }
	flags := func(more ...string) []string {
		return append([]string{"up", "--ports", strconv.Itoa(first), "--state", filepath.Join(t.TempDir(), "state")}, more...)
	}
	addr := freeport.Addr(t)
	run(t, new(ledger).serve(t, addr))
	start(t, bin, flags("--no-services", "--route", ledgerService+"=http://"+addr, "--schema", ledgerImage(t))...)
	awaitReady(t, at(10))
	if got := holdline(t, "http://"+at(0), "call", ledgerService+"/Post", "-d", `{"amount": "1"}`); got.status != 0 {
		t.Errorf("the ledger: %+v", got)
	}
	if got := holdline(t, "http://"+at(0), "services"); strings.Contains(got.stdout, "Sum") || !strings.Contains(got.stdout, ledgerService) {
		t.Errorf("services: got %s, want the ledger alone", got.stdout)
	}
	res, err := http.Get("http://" + at(11) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "holdline"), flags()...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), at(10)) || !strings.Contains(string(out), "--ports") {
		t.Errorf("ports that are taken: got %s, %v, want the flag that gives others", out, err)
	}
}
