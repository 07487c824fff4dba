package e2e

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"holdline/internal/freeport"
	"holdline/internal/load"
	"holdline/internal/route"
	"holdline/internal/stack"
)

// Routes and schemas are replaced again and again in a process that is asked for everything that depends on them. Nothing
// fails.
func TestReplaceWhileInUse(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{Metrics: "127.0.0.1:0"})
	ctx, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for _, ask := range []func(){
		func() {
			if res, body := post(t, sumURL(s), `{"a": 1, "b": 2}`); body != `{"result":3}` {
				t.Errorf("a call: %s %s", res.Status, body)
			}
		},
		func() {
			if res, body := post(t, sumURL(s), `{"a": 1, "b": 2}`, "Prefer: wait=60, respond-async"); body != `{"result":3}` {
				t.Errorf("a call that is stored first: %s %s", res.Status, body)
			}
		},
		func() {
			if res, body := post(t, "http://"+s.Gateway+"/gateway.v1.DirectoryService/ListServices", `{}`); !strings.Contains(body, "SumService") {
				t.Errorf("the directory: %s %s", res.Status, body)
			}
		},
		func() {
			if res, body := get(t, s.Gateway, "/openapi.yaml"); !strings.Contains(body, "/arithmetic.v1.SumService/Sum") {
				t.Errorf("the document: %s %s", res.Status, body)
			}
		},
		func() { scrape(t, s.Metrics) },
		func() { queueAt(t, s.MOM) },
	} {
		asking.Go(func() {
			for ctx.Err() == nil {
				ask()
			}
		})
	}
	image, place := ledgerImage(t), freeport.Addr(t)
	for i := range 40 {
		routes, images := s.Shipped, []string{}
		if i%2 == 0 {
			routes, images = append(routes[:len(routes):len(routes)], to(place)+";shards=2"), []string{image}
		}
		table, err := route.ParseTable(routes)
		if err != nil {
			t.Fatal(err)
		}
		schemas, err := table.Schemas(images...)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Replace(table, schemas); err != nil {
			t.Errorf("Replace: %v", err)
		}
		load.Pause(t.Context(), 10*time.Millisecond) // what is asked for meets each of them
	}
	stop()
	asking.Wait()
}
