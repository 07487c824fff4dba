package e2e

import (
	"bufio"
	"net"
	"strings"
	"testing"

	"holdline/internal/freeport"
	"holdline/internal/redistest"
	"holdline/mom/redisstore"
)

// A task that is alone costs two round trips to Redis: it is stored and leased, and ended. If it may not run twice there is one more,
// for the mark. Its caller, who is held, costs none: the MOM has the answer.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	const tasks = 20
	redis := redistest.New(t)
	store, err := redisstore.Open(redisstore.Config{URL: redis.URL(), Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	addr := freeport.Addr(t)
	front := ledgerMOM(t, store, addr)
	var l ledger
	run(t, l.serve(t, addr))

	for method, trips := range map[string]int{"Read": 2, "Post": 3} {
		call := func(amount int64) {
			if got, _ := (wire{}).ask(t, front, method, amounts(t, amount), "Prefer: wait=60"); got.code != 0 {
				t.Fatalf("%s: got %v", method, got)
			}
		}
		call(0) // the service is up, and its connection open
		monitor, err := net.Dial("unix", strings.TrimPrefix(redis.URL(), "unix://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = monitor.Close() }()
		if _, err := monitor.Write([]byte("MONITOR\r\n")); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(monitor)
		lines.Scan() // +OK
		for i := range tasks {
			call(int64(i + 1))
		}
		if _, err := store.Services(t.Context()); err != nil { // a command that ends the count
			t.Fatal(err)
		}
		asked := map[string]int{}
		for lines.Scan() && !strings.Contains(lines.Text(), "hl:services") {
			client, command, _ := strings.Cut(lines.Text(), "] ")
			if !strings.HasSuffix(client, " lua") {
				asked[strings.Fields(command)[0]]++
			}
		}
		// The shard may have been reaped meanwhile, and the MOM have looked at the store.
		if scripts := asked[`"EVALSHA"`]; scripts < trips*tasks || scripts > trips*tasks+tasks/4 {
			t.Errorf("%s: %d scripts for %d tasks, want %d for each; all commands: %v", method, scripts, tasks, trips, asked)
		}
		delete(asked, `"EVALSHA"`)
		for command, n := range asked {
			if n > tasks/4 {
				t.Errorf("%s: %s was sent %d times for %d tasks", method, command, n, tasks)
			}
		}
	}
}
