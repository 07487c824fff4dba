package gateway

import (
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdline/internal/route"
)

// routesAnd are routes with the schemas that there are.
func routesAnd(t *testing.T, specs ...string) (route.Table, *route.Schemas) {
	t.Helper()
	routes, err := route.ParseTable(specs)
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := routes.Schemas()
	if err != nil {
		t.Fatal(err)
	}
	return routes, schemas
}

// What is known of a service stays when its route changes; others come and go; and routes that are wrong change nothing.
func TestReplace(t *testing.T) {
	t.Parallel()
	routes, schemas := routesAnd(t, "a.S=http://127.0.0.1:1", "b.S=http://127.0.0.1:1")
	mom, err := route.ParseEndpoint("http://127.0.0.1:2")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	g, err := New(Config{Routes: routes, Schemas: schemas, Logger: slog.New(slog.DiscardHandler), Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	b := g.targets.of("b.S")
	b.learnShards(4)
	version := g.targets.version.Load()
	if err := g.Replace(routesAnd(t, "b.S=http://127.0.0.1:3;try-timeout=1s;shards=2", "c.S=http://127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	if g.targets.of("b.S") != b || b.pool.Endpoints()[0].String() != "http://127.0.0.1:3" || b.route().TryTimeout != time.Second || b.shards() != 4 {
		t.Errorf("a changed route: %v at %v, want the target that was there, at its new place", g.targets.of("b.S"), b.pool.Endpoints())
	}
	if g.targets.of("a.S") != nil || g.targets.of("c.S") == nil || g.targets.version.Load() == version {
		t.Errorf("targets are %v, want b and c", slices.Sorted(maps.Keys(g.targets.all())))
	}
	families, err := registry.Gather()
	if text := fmt.Sprint(families); err != nil || strings.Contains(text, "a.S") || !strings.Contains(text, "b.S") {
		t.Errorf("series: %s, %v, want those of b and c", text, err)
	}
	described := g.describe().Services
	if names := g.routed(); !slices.Equal(names, []string{"b.S", "c.S"}) || len(described) != 3 {
		t.Errorf("routed: %v, described: %v", names, described)
	}
	if err := g.Replace(route.Table{}, schemas); err == nil || g.targets.of("b.S") != b {
		t.Errorf("no routes: %v, want an error and no change", err)
	}

	g, err = New(Config{Routes: routes, Schemas: schemas, MOM: []*url.URL{mom}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	tasks := g.targets.of(ofMOM[0])
	if err := g.Replace(routesAnd(t, "mom.v1.TaskService=http://127.0.0.1:1")); err == nil || g.targets.of("a.S") == nil {
		t.Errorf("a route to the MOM's own service: %v, want an error and no change", err)
	}
	if err := g.Replace(routesAnd(t, "c.S=http://127.0.0.1:1")); err != nil || g.targets.of(ofMOM[0]) != tasks {
		t.Errorf("%v, or the MOM's own service has lost its target", err)
	}
}

// A MOM may know the new files some seconds earlier or later: only a difference that lasts is told.
func TestDifferencesThatLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		m := &meeting{log: slog.New(slog.NewTextHandler(&log, nil)), said: map[string]string{}, seen: map[string]difference{}}
		route, schema := map[string]string{"a.S": "it has no such route"}, map[string]string{"a.S": "its schema is another"}
		for _, step := range []struct {
			after       time.Duration
			differences map[string]string
			waits       bool
			logged      string
		}{
			{0, route, true, ""},
			{time.Second, nil, false, ""},
			{0, route, true, ""},
			{meetPatience - 1, route, true, ""},
			{1, route, false, "it has no such route"},
			{time.Hour, route, false, ""},
			{0, schema, true, ""},
			{meetPatience, schema, false, "its schema is another"},
			{0, route, true, ""},
			{time.Second, schema, false, ""},
			{0, nil, false, "agree again"},
			{0, nil, false, ""},
		} {
			time.Sleep(step.after)
			log.Reset()
			waits := m.tell("mom", step.differences)
			if waits != step.waits || (log.Len() > 0) != (step.logged != "") || !strings.Contains(log.String(), step.logged) {
				t.Errorf("%v after %s: waits %v, logged %q; want %v, %q", step.differences, step.after, waits, log.String(), step.waits, step.logged)
			}
		}
	})
}
