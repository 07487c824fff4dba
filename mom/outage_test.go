package mom_test

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/redistest"
	"holdline/internal/route"
	"holdline/internal/server/servertest"
	"holdline/mom"
	"holdline/mom/redisstore"
)

// An outage of many services costs Redis about as much as one of a few: neither commands nor
// connections grow with the number of services that are asked for their health.
func TestOutageOfManyServices(t *testing.T) {
	t.Parallel()
	const services = 300
	server := redistest.New(t)
	store, err := redisstore.Open(redisstore.Config{URL: server.URL(), CommandTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	var specs []string
	for i := range services {
		service := fmt.Sprintf("s%d.v1.Service", i)
		specs = append(specs, service+"=http://127.0.0.1:1")
		_, err := store.Add(t.Context(), mom.NewTask{
			ID: contract.NewTaskID(service, 1, "", "", ""), Call: &momv1.Call{RecordVersion: 1, Procedure: "/" + service + "/Do"},
			Repeatable: true, TTL: time.Hour, AnswerTTL: time.Hour,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	routes, err := route.ParseTable(specs)
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	m, err := mom.New(mom.Config{Routes: routes, Schemas: schemas, Logger: slog.New(slog.DiscardHandler)}, store)
	if err != nil {
		t.Fatal(err)
	}
	servertest.Keep(t, m)
	// Each shard is looked at when the MOM starts, and again after what was heard. Then it is quiet.
	const span, enough = 3 * time.Second, 100.0
	var perSecond float64
	for range 10 {
		before := commands(t, server)
		<-time.After(span)
		if perSecond = float64(commands(t, server)-before) / span.Seconds(); perSecond < enough {
			break
		}
	}
	clients := strings.Count(server.Ask(t, "CLIENT", "LIST"), "id=")
	t.Logf("%d services: %.0f commands a second, %d connections", services, perSecond, clients)
	if perSecond >= enough || clients > 6 {
		t.Errorf("%d services: got %.0f commands a second and %d connections, want fewer than %.0f and no more than 6", services, perSecond, clients, enough)
	}
}

// commands counts what a server has run, inside scripts too.
func commands(t *testing.T, server *redistest.Server) (sum int64) {
	t.Helper()
	for line := range strings.Lines(server.Ask(t, "INFO", "commandstats")) {
		if _, rest, ok := strings.Cut(line, "calls="); ok {
			n, _, _ := strings.Cut(rest, ",")
			calls, err := strconv.ParseInt(n, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += calls
		}
	}
	return sum
}
