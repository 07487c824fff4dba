package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/internal/contract"
	"holdline/internal/stack"
	"holdline/services"
)

// TestMain lets the tests' own binary be a peer, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && commands[os.Args[1]] != nil {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := median(test.values); got != test.want {
			t.Errorf("median(%v) = %v, want %v", test.values, got, test.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, test := range []struct {
		sorted []time.Duration
		p      int
		want   time.Duration
	}{{nil, 50, 0}, {hundred[:1], 99, 1}, {hundred, 50, 50}, {hundred, 99, 99}, {hundred[:3], 50, 2}, {hundred, 0, 1}} {
		if got := percentile(test.sorted, test.p); got != test.want {
			t.Errorf("percentile of %d values, %d = %d, want %d", len(test.sorted), test.p, got, test.want)
		}
	}
}

// TestCallers calls the real service, on its own and behind ReverseProxy, often
// enough to use up a first flow control window.
func TestCallers(t *testing.T) {
	t.Parallel()
	svc, _ := services.Find("sum")
	backend, err := stack.NewService(svc, "127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- backend.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	handler, err := reverseProxy(backend.Addr())
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewUnstartedServer(handler)
	proxy.Config.Protocols = both()
	proxy.Start()
	t.Cleanup(proxy.Close)

	for _, protocol := range protocolNames(false) {
		for name, addr := range map[string]string{"direct": backend.Addr(), "proxied": proxy.Listener.Addr().String()} {
			t.Run(protocol+"/"+name, func(t *testing.T) {
				c := dialFor(t, protocol, addr, askSum)
				for i := range 4000 {
					if err := call(c); err != nil {
						t.Fatalf("call %d: %v", i, err)
					}
				}
			})
		}
	}
}

// TestCallersComplain has servers that answer, but not rightly.
func TestCallersComplain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, protocol, want string
		handler              http.HandlerFunc
		ask                  *ask
	}{
		{"result", protocolConnect, `want "{\"result\":3}"`, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"result":4}`))
		}, askSum},
		{"status", protocolConnect, "want 200", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}, askSum},
		{"result", protocolGRPC, "want 0000000009090000000000000840", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			_, _ = w.Write(sum.grpc.request)
		}, askSum},
		{"status", protocolGRPC, "want 200", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}, askSum},
		{"code", protocolGRPC, `grpc-status "14", want 0`, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Grpc-Status", "14")
		}, askSum},
		{"a message of two", protocolConnect, "answer ", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(askStream(1).message.connect.answer)
		}, askStream(2)},
		{"a message of two", protocolGRPC, "answer ", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			_, _ = w.Write(askStream(1).message.grpc.answer)
		}, askStream(2)},
		{"no handle", protocolConnect, "want 202", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"result":3}`))
		}, askStored},
		{"handle of no task", protocolConnect, `Holdline-Task ""`, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write([]byte(`{"code":"deadline_exceeded"}`))
		}, askStored},
		{"handle with another code", protocolConnect, "want code deadline_exceeded", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(contract.HeaderTask, someTask)
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write([]byte(`{"code":"unavailable"}`))
		}, askStored},
		{"no task", protocolConnect, `Holdline-Task ""`, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"result":3}`))
		}, askKeyed},
		{"no handle", protocolGRPC, `grpc-status "0", want 4`, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(contract.HeaderTask, someTask)
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			_, _ = w.Write(sum.grpc.answer)
		}, askStored},
		{"handle of another service", protocolGRPC, `Holdline-Task "acme`, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(contract.HeaderTask, strings.Replace(someTask, service, "acme.v1.Service", 1))
			w.Header().Set("Grpc-Status", "4")
		}, askStored},
	} {
		t.Run(test.protocol+"/"+test.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewUnstartedServer(test.handler)
			server.Config.Protocols = both()
			server.Start()
			t.Cleanup(server.Close)
			err := call(dialFor(t, test.protocol, server.Listener.Addr().String(), test.ask))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("call: got %v, want an error with %q", err, test.want)
			}
		})
	}
}

// TestEchoes has messages that are larger than windows, and streams, with calls that share a connection.
func TestEchoes(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	server.Config.Protocols = both()
	server.Config.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerConnection: 1 << 16, MaxReceiveBufferPerStream: 1 << 16}
	server.Start()
	t.Cleanup(server.Close)
	for _, a := range []*ask{askEcho(1), askEcho(1 << 20), askStream(1), askStream(100)} {
		for protocol, streams := range map[string]int{protocolConnect: 1, protocolGRPC: 8} {
			t.Run(protocol+"/"+a.name, func(t *testing.T) {
				t.Parallel()
				l, err := newLoad(t.Context(), protocol, server.Listener.Addr().String(), a)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(l.caller.close)
				for range 2 {
					if err := errors.Join(drive([]*load{l}, streams, 100*time.Millisecond), l.err); err != nil || len(l.latencies) < streams {
						t.Errorf("%d calls, %v; want at least %d and no error", len(l.latencies), err, streams)
					}
				}
			})
		}
	}
}

const someTask = service + ".0.01M8363X5S7D4RHXFMDMVHM8AM"

// TestHandles has a server that answers with handles, if it is asked for them.
func TestHandles(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(contract.HeaderPrefer) != "respond-async" {
			http.Error(w, "not asked for a handle", http.StatusBadRequest)
			return
		}
		w.Header().Set(contract.HeaderTask, someTask)
		if r.ProtoMajor == 2 {
			w.Header().Set("Grpc-Status", "4")
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(`{"code":"deadline_exceeded","message":"accepted"}`))
	}))
	server.Config.Protocols = both()
	server.Start()
	t.Cleanup(server.Close)
	for _, protocol := range protocolNames(false) {
		c := dialFor(t, protocol, server.Listener.Addr().String(), askStored)
		for range 2 {
			if err := call(c); err != nil {
				t.Fatalf("%s: %v", protocol, err)
			}
		}
		if c.task() != someTask {
			t.Errorf("%s: task %q, want %q", protocol, c.task(), someTask)
		}
	}
}

// TestKeys wants another key with each call, of the same caller and of others.
func TestKeys(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]bool{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, err := contract.Key(r.Header)
		mu.Lock()
		defer mu.Unlock()
		if err != nil || key == "" || seen[key] {
			http.Error(w, "no new key", http.StatusBadRequest)
			return
		}
		seen[key] = true
		w.Header().Set(contract.HeaderTask, someTask)
		if r.ProtoMajor == 2 {
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			_, _ = w.Write(sum.grpc.answer)
			return
		}
		_, _ = w.Write([]byte(`{"result":3}`))
	}))
	server.Config.Protocols = both()
	server.Start()
	t.Cleanup(server.Close)
	for range 2 {
		for _, protocol := range protocolNames(false) {
			c := dialFor(t, protocol, server.Listener.Addr().String(), askKeyed)
			for range 10 {
				if err := call(c); err != nil {
					t.Fatalf("%s: %v", protocol, err)
				}
			}
		}
	}
	if len(seen) != 2*len(protocolNames(false))*10 {
		t.Errorf("%d keys, want %d", len(seen), 2*len(protocolNames(false))*10)
	}
}

// Libraries that translate answer as the gateway does.
func TestTranslators(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serveInGRPC(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	for name, proxy := range map[string]func(string) (http.Handler, error){"vanguard": vanguardProxy, "grpc-gateway": grpcGateway} {
		handler, err := proxy(ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		c := dialFor(t, protocolConnect, server.Listener.Addr().String(), askSum)
		for i := range 100 {
			if err := call(c); err != nil {
				t.Fatalf("%s: call %d: %v", name, i, err)
			}
		}
	}
}

// TestQuickRuns runs every scenario of the stored path, and that of the bridge, briefly; each checks
// answers and counts tasks.
func TestQuickRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := buildHoldline(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "rows.json")
	s, err := parse([]string{
		"-scenario", "bridged,stored,keyed,replay", "-rounds", "1", "-duration", "20ms", "-connections", "2", "-tasks", "50",
		"-other", holdlineBinary(dir), "-json", file,
	})
	if err != nil {
		t.Fatal(err)
	}
	var report strings.Builder
	if err := s.run(t.Context(), &report); err != nil {
		t.Fatal(err)
	}
	for _, title := range []string{
		"## bridged", "holdline to vanguard", "## stored", "\nstored, accepted/s to asynq's: connect-h1 2 calls/s ", "CPU per accepted call to the other build's: connect-h1 2 gateway ",
		"## keyed", "\nkeyed, other/s to what asynq works off: connect-h1 2 calls/s ", "CPU per keyed call to the other build's: connect-h1 2 gateway ",
		"## replay", "\nreplay, drained/s to what asynq works off: connect-h1 calls/s ", "CPU per drained task to the other build's: connect-h1 mom ",
	} {
		if !strings.Contains(report.String(), title) {
			t.Errorf("no %q in the report:\n%s", title, report.String())
		}
	}
	got := map[string]int{}
	for _, r := range readRows(t, file) {
		got[r.Scenario+"/"+r.Peer]++
		if r.Calls == 0 || !strings.HasPrefix(r.Peer, peerHeld) && r.CPU <= 0 {
			t.Errorf("a row without calls, or without CPU time: %+v", r)
		}
	}
	protocols := len(protocolNames(false))
	want := map[string]int{
		"stored/asynq": protocols, "keyed/asynq": 1, "replay/asynq": protocols, "bridged/holdline": 1, "bridged/holdline-other": 1, "bridged/vanguard": 1, "bridged/grpc-gateway": 1,
	}
	for _, suffix := range []string{"", suffixOther} {
		want["stored/stored"+suffix], want["keyed/keyed"+suffix], want["keyed/no key"+suffix] = protocols, protocols, protocols
		want["replay/replay"+suffix], want["replay/held"+suffix] = protocols, protocols*heldCalls
	}
	if !maps.Equal(got, want) {
		t.Errorf("rows: got %v, want %v", got, want)
	}
}

// TestQuickRequested runs the scenarios of the stored path that are measured on request only, briefly.
func TestQuickRequested(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		scenario string
		args     []string
		lines    []string // of the report
		rows     map[string]int
	}{
		{scenarioLatency, []string{"-duration", "100ms"}, []string{"\nrespond-async to asynq: grpc-h2c p50 "}, map[string]int{
			peerAsync: 1, peerAsynq: 1, peerAsynqUsual: 1,
		}},
		{scenarioDepth, []string{"-duration", "100ms", "-depth", "2000"}, []string{"\nMemory of Redis per task: holdline "}, map[string]int{
			peerMemory: 2, peerEnqueue: 2, peerQueueDepth: 2, peerListAll: 2, peerListQueued: 2, peerListDead: 2, peerCancel: 2, peerDrain: 2,
		}},
		{scenarioScale, []string{"-duration", "20ms"}, []string{
			"\ngrpc-h2c, stored, CPU per call to that of one shard and one pair: shards 2, pairs 1: ",
			"\ngrpc-h2c, keyed, CPU per call to that of one shard and one pair on a cluster: shards 2, pairs 1: ",
			"\ngrpc-h2c, stored, CPU per call to that of one shard and one pair, 16 connections for each: shards 2, pairs 1: ",
		}, map[string]int{peerStored: 8, peerKeyed: 8}},
		{scenarioHeld, []string{"-duration", "20ms", "-held", "50"}, []string{"| 1 × 50 "}, map[string]int{
			peerHeld: 1, partGateway: 1, partMOM: 1,
		}},
	} {
		t.Run(test.scenario, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "rows.json")
			s, err := parse(append(test.args, "-scenario", test.scenario, "-protocol", protocolGRPC, "-rounds", "1", "-json", file))
			if err != nil {
				t.Fatal(err)
			}
			s.deployments = s.deployments[:2]
			var report strings.Builder
			if err := s.run(t.Context(), &report); err != nil {
				t.Fatal(err)
			}
			for _, line := range test.lines {
				if !strings.Contains(report.String(), line) {
					t.Errorf("no %q in the report:\n%s", line, report.String())
				}
			}
			got := map[string]int{}
			for _, r := range readRows(t, file) {
				got[r.Peer]++
				if r.Calls == 0 {
					t.Errorf("a row without calls: %+v", r)
				}
			}
			if !maps.Equal(got, test.rows) {
				t.Errorf("rows: got %v, want %v", got, test.rows)
			}
		})
	}
}

// TestQuickProxies measures each peer that is on this machine, briefly, with TLS and without.
func TestQuickProxies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		scenario string
		args     []string
		rows     int // of a peer
	}{
		// A size and a stream, in four shapes of gRPC and two of HTTP/1.1.
		{scenarioDirect, []string{"-protocol", "connect-h1,connect-tls,grpc-h2c,grpc-tls", "-size", "100000", "-messages", "3", "-connections", "1,2x3"}, 2 * (4 + 2)},
		{scenarioIdle, []string{"-protocol", "connect-h1,grpc-tls", "-idle", "20"}, 2},
	} {
		t.Run(test.scenario, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "rows.json")
			s, err := parse(append(test.args, "-scenario", test.scenario, "-rounds", "1", "-duration", "20ms", "-json", file))
			if err != nil {
				t.Fatal(err)
			}
			var report strings.Builder
			if err := s.run(t.Context(), &report); err != nil {
				t.Fatal(err)
			}
			got := map[string]int{}
			for _, r := range readRows(t, file) {
				got[r.Peer]++
				if r.Calls == 0 {
					t.Errorf("a row without calls: %+v", r)
				}
			}
			for _, peer := range []string{peerHoldline, peerReverseProxy, peerNginx, peerHAProxy} {
				if onPath(peer) == "" && (peer == peerNginx || peer == peerHAProxy) {
					t.Logf("%s was not measured: it is not on this machine", peer)
				} else if got[peer] != test.rows || !strings.Contains(report.String(), peer) {
					t.Errorf("%s: %d rows, want %d and a line in the report:\n%s", peer, got[peer], test.rows, report.String())
				}
			}
		})
	}
}

func readRows(t *testing.T, file string) (rows []row) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(raw, &rows)
	}
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-scenario", "direct,other"}, {"-tasks", "0"}, {"-tasks", "500001"}, {"-connections", "0"}, {"-rounds", "0"},
		{"-connections", "2x"}, {"-connections", "2x3x4"}, {"-size", "0"}, {"-messages", "1,many"}, {"-idle", "0"}, {"-depth", "999"}, {"-held", "5001"},
		{"-scenario", "direct,stored", "-protocol", protocolGRPCTLS},
	} {
		if s, err := parse(args); err == nil {
			t.Errorf("parse(%q) = %+v, want an error", args, s)
		}
	}
}

// TestChunks reads an answer in two chunks, as a streaming proxy may send it.
func TestChunks(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"res`))
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write([]byte(`ult":3}`))
	}))
	t.Cleanup(server.Close)
	c := dialFor(t, protocolConnect, server.Listener.Addr().String(), askSum)
	for range 2 {
		if err := call(c); err != nil {
			t.Fatal(err)
		}
	}
}

func both() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return protocols
}

func dialFor(t testing.TB, protocol, addr string, a *ask) caller {
	t.Helper()
	if _, _, err := net.SplitHostPort(addr); err != nil {
		t.Fatal(err)
	}
	c, err := dial(t.Context(), protocol, addr, a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	if err := c.expire(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}
