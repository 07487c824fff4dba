package mom_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/grpchealth"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	"holdline/internal/redistest"
	"holdline/internal/route"
	"holdline/internal/server"
	"holdline/internal/server/servertest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// lines are what was logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// watched is a MOM on a Redis of its own, whose service is down, and its log.
type watched struct {
	*mom.MOM
	t   *testing.T
	log *lines
}

func newWatched(t *testing.T, url string) *watched {
	t.Helper()
	w := &watched{t: t, log: &lines{}}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	store, err := redisstore.Open(redisstore.Config{URL: url, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	routes, err := route.ParseTable([]string{arithmeticv1connect.SumServiceName + "=http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	if w.MOM, err = mom.New(mom.Config{Routes: routes, Schemas: schemas, Logger: log}, store); err != nil {
		t.Fatal(err)
	}
	servertest.Keep(t, w)
	w.until("it is ready", w.serving)
	return w
}

func (w *watched) serving() bool {
	res, err := w.Check(w.t.Context(), &grpchealth.CheckRequest{})
	return err == nil && res.Status == grpchealth.StatusServing
}

func (w *watched) until(what string, done func() bool) {
	w.t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("never: %s", what)
		}
	}
}

// What is wrong with a Redis while the MOM runs is found within seconds, and so is that it was put
// right.
func TestRedisIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	w := newWatched(t, server.URL())
	server.Ask(t, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	w.until("it is not ready", func() bool { return !w.serving() })
	w.until("the log names the policy", func() bool { return w.log.count("maxmemory-policy is allkeys-lru") == 1 })
	server.Ask(t, "CONFIG", "SET", "maxmemory-policy", "noeviction")
	w.until("it is ready again", w.serving)

	server.Ask(t, "CONFIG", "SET", "appendonly", "no")
	w.until("a warning", func() bool { return w.log.count("no append-only file") == 1 })
	server.Ask(t, "CONFIG", "SET", "maxmemory", "1000000")
	w.until("a warning", func() bool { return w.log.count("nearly full") == 1 })
	if !w.serving() {
		t.Error("without a file, and full, it is still the operator's to decide: got NOT_SERVING")
	}
	server.Ask(t, "REPLICAOF", "127.0.0.1", "1")
	w.until("it is not ready", func() bool { return !w.serving() })
	server.Ask(t, "REPLICAOF", "NO", "ONE")
	w.until("it is ready again", w.serving)
}

// A store that was emptied is an error that is logged, and taken as it is then. Whoever is held for
// a task that it had hears of it at once.
func TestEmptiedStoreIsNoticed(t *testing.T) {
	t.Parallel()
	redis := redistest.New(t)
	w := newWatched(t, redis.URL())
	addr, _ := servertest.Run(t, server.Config{Handler: w})
	client := &http.Client{Transport: new(http.Transport)}
	t.Cleanup(client.CloseIdleConnections)
	held := make(chan int, 1)
	go func() { held <- w.handOff(client, "http://"+addr, "wait=300") }()
	w.until("a task is stored", func() bool {
		return redis.Ask(t, "EXISTS", "hl:{"+arithmeticv1connect.SumServiceName+"#0}:ttl") == "1"
	})
	redis.Ask(t, "FLUSHALL")
	w.until("it is noticed", func() bool { return w.log.count("tasks are lost") == 1 })
	select {
	case status := <-held:
		if status == http.StatusOK || status == http.StatusAccepted {
			t.Errorf("held for a lost task: got %d, want an error", status)
		}
	case <-time.After(30 * time.Second):
		t.Error("the caller of a lost task is held on")
	}
	w.until("it is ready again", func() bool { return w.serving() && redis.Ask(t, "DBSIZE") != "0" })
	if got := redis.Ask(t, "EXISTS", "hl:shards:{"+arithmeticv1connect.SumServiceName+"}"); got != "1" {
		t.Errorf("the number of shards: got %s, want it claimed anew", got)
	}
}

// handOff offers a call, and returns the status.
func (w *watched) handOff(client *http.Client, url, prefer string) int {
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, url+"/"+arithmeticv1connect.SumServiceName+"/Sum", strings.NewReader(`{"a": 1, "b": 2}`))
	if err != nil {
		w.t.Error(err)
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Prefer", prefer)
	res, err := client.Do(req)
	if err != nil {
		w.t.Error(err)
		return 0
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res.StatusCode
}

// A burst while Redis is silent is refused for as long as that lasts, and nobody after it.
func TestBurstWhileRedisIsSilent(t *testing.T) {
	t.Parallel()
	redis := redistest.New(t)
	w := newWatched(t, redis.URL())
	addr, _ := servertest.Run(t, server.Config{Handler: w})
	transport := &http.Transport{MaxIdleConnsPerHost: 600}
	t.Cleanup(transport.CloseIdleConnections)
	client, url := &http.Client{Transport: transport}, "http://"+addr
	w.until("a first task", func() bool { return w.handOff(client, url, "respond-async") == http.StatusAccepted })
	for range 2 {
		redis.Freeze(t)
		var burst sync.WaitGroup
		for range 600 {
			burst.Go(func() { w.handOff(client, url, "respond-async") })
		}
		burst.Wait()
		redis.Thaw(t)
		back := time.Now()
		w.until("a task is taken", func() bool { return w.handOff(client, url, "respond-async") == http.StatusAccepted })
		// It was seven seconds.
		if took := time.Since(back); took > 3*time.Second {
			t.Errorf("the next task was taken after %v", took)
		}
		t.Logf("taken after %v", time.Since(back))
	}
}
