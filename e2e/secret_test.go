package e2e

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect/v2"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/freeport"
	"holdline/internal/server"
)

// secretFile writes lines, as somebody does who rotates a secret: whole, or not at all.
func secretFile(tb testing.TB, name string, lines ...string) string {
	tb.Helper()
	part := name + ".part"
	if err := os.WriteFile(part, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(part, name); err != nil {
		tb.Fatal(err)
	}
	return name
}

// overhearing is a ledger that remembers all headers it gets.
type overhearing struct {
	ledger
	mu    sync.Mutex
	heard []http.Header
}

func (o *overhearing) serve(tb testing.TB, addr string) *server.Server {
	tb.Helper()
	next := o.handler()
	s, err := server.Listen(server.Config{Addr: addr, Logger: testLog(tb), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.heard = append(o.heard, maps.Clone(r.Header))
		o.mu.Unlock()
		next.ServeHTTP(w, r)
	})})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// A MOM with a secret takes calls from a gateway that shows it, and no service, store or log
// hears of the secret: directly, in replay, or from a caller who sends one.
func TestSecret(t *testing.T) {
	t.Parallel()
	const word = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
	file := secretFile(t, filepath.Join(t.TempDir(), "secret"), word)
	h := deployAs(t, layout{flags: []string{"--mom-secret-file", file, "--log-level", "debug"}})
	ids := h.async(t, "Read", 3)
	var o overhearing
	run(t, o.serve(t, h.ledger))
	h.checkAnswers(t, ids)
	for _, w := range wires() {
		if _, err := w.call(t, w.client(t, h.addr), "Read", 1, "Holdline-Secret: "+word); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
		if _, err := w.call(t, w.client(t, h.addr), "Read", 1, "Idempotency-Key: "+w.name, "Holdline-Secret: wrong"); err != nil {
			t.Errorf("%s with a key: %v", w.name, err)
		}
	}
	if len(o.heard) == 0 {
		t.Fatal("the ledger heard nothing")
	}
	for _, header := range o.heard {
		for key, values := range header {
			if key == contract.HeaderSecret || strings.Contains(strings.Join(values, " "), word) {
				t.Errorf("the service got %s: %s", key, values)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(h.redis.Dir(), "appendonlydir", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("Redis has the files %v, %v", files, err)
	}
	for _, name := range files {
		if raw, err := os.ReadFile(name); err != nil || strings.Contains(string(raw), word) {
			t.Errorf("the secret is in %s (%v)", name, err)
		}
	}
}

// A gateway that does not show the MOM's secret is told so, and its callers hear that their
// calls were not stored, and not that they are strangers. Nothing is stored meanwhile.
func TestWrongSecret(t *testing.T) {
	t.Parallel()
	ownSystem(t)
	right, bin := secretFile(t, filepath.Join(t.TempDir(), "secret"), "right"), build(t)
	h := deployAs(t, layout{flags: []string{"--mom-secret-file", right}})
	id := h.async(t, "Read", 1)[0]
	for name, flags := range map[string][]string{
		"another secret": {"--mom-secret-file", secretFile(t, filepath.Join(t.TempDir(), "secret"), "a-wrong-one")},
		"none":           {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log jsonLines
			addr := freeport.Addr(t)
			stranger := &process{name: filepath.Join(bin, "holdline"), log: &log, args: append([]string{"gateway", "--listen", addr, "--mom", "http://" + h.momAddr[0],
				"--route", ledgerService + "=http://" + h.ledger, "--schema", ledgerImage(t), "--log-format", "json", "--log-level", "debug"}, flags...)}
			stranger.begin(t)
			awaitReady(t, addr)
			for _, w := range wires() {
				for _, ask := range []string{"Prefer: respond-async", "Idempotency-Key: " + w.name, "Prefer: wait=5"} {
					_, err := w.call(t, w.client(t, addr), "Read", 1, ask)
					if connect.CodeOf(err) != connect.CodeUnavailable || contract.ReasonOf(err) != momv1.Reason_REASON_STORE_UNAVAILABLE {
						t.Errorf("%s, %s: got %v, want unavailable, STORE_UNAVAILABLE", w.name, ask, err)
					}
				}
			}
			if _, err := taskService(t, addr).GetTask(t.Context(), &momv1.GetTaskRequest{Id: id}); contract.ReasonOf(err) != momv1.Reason_REASON_STORE_UNAVAILABLE {
				t.Errorf("GetTask: got %v, want STORE_UNAVAILABLE", err)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/v1/tasks/"+id, nil)
			if err != nil {
				t.Fatal(err)
			}
			if res, body := do(t, req); res.StatusCode != http.StatusServiceUnavailable || reasonIn(t, body) != "STORE_UNAVAILABLE" || res.Header.Get(contract.HeaderRefused) != "" {
				t.Errorf("GET of the task: %d %s %v, want 503 STORE_UNAVAILABLE", res.StatusCode, body, res.Header)
			}
			eventually(t, func() bool {
				log.mu.Lock()
				defer log.mu.Unlock()
				return strings.Contains(log.text.String(), "give both the same --mom-secret-file")
			}, "the gateway says what to do")
			log.mu.Lock()
			defer log.mu.Unlock()
			if strings.Contains(log.text.String(), "a-wrong-one") {
				t.Error("the log has the secret")
			}
		})
	}
}

// A secret is rotated while calls come: each MOM takes two, then each gateway shows the new
// one, then the old one goes. A file that cannot be used changes nothing.
func TestSecretRotates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ofMOM, ofGateway := filepath.Join(dir, "mom"), filepath.Join(dir, "gateway")
	secretFile(t, ofMOM, "old")
	secretFile(t, ofGateway, "old")
	h := deployAs(t, layout{momFlags: []string{"--mom-secret-file", ofMOM}, gatewayFlags: []string{"--mom-secret-file", ofGateway}})
	var log jsonLines
	h.gateways[0].kill(t)
	h.gateways[0].log = &log
	h.gateways[0].restart(t)
	h.awaitReady(t)
	run(t, new(ledger).serve(t, h.ledger))
	// shows tells what the MOM says to somebody who shows a secret.
	shows := func(secret string) int {
		res, _ := post(t, "http://"+h.momAddr[0]+"/mom.v1.HoldService/ListRoutes", `{}`, "Holdline-Secret: "+secret)
		return res.StatusCode
	}
	call := func(when string) {
		t.Helper()
		if _, err := (wire{http2: true}).call(t, wire{http2: true}.client(t, h.addr), "Read", 1, "Idempotency-Key: "+strings.ReplaceAll(when, " ", "-")); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	call("at first")
	secretFile(t, ofMOM, "old", "", "new")
	eventually(t, func() bool { return shows("new") == http.StatusOK }, "the MOM takes the new secret")
	if shows("old") != http.StatusOK {
		t.Error("the MOM does not take the old secret any more")
	}
	call("with both")
	secretFile(t, ofMOM) // a mistake
	secretFile(t, ofGateway, "new", "old")
	eventually(t, func() bool {
		call("with both, at the gateway too")
		log.mu.Lock()
		defer log.mu.Unlock()
		return strings.Contains(log.text.String(), "renewed")
	}, "the gateway shows the new secret")
	secretFile(t, ofMOM, "new")
	eventually(t, func() bool { return shows("old") == http.StatusUnauthorized }, "the MOM does not take the old secret")
	call("with the new one")
	for _, wrong := range []string{"ne", "new2", "NEW", "", "new\told"} {
		if got := shows(wrong); got != http.StatusUnauthorized {
			t.Errorf("secret %q: got %d, want 401", wrong, got)
		}
	}
}
