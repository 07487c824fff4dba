package mom

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
	"holdline/internal/route"
)

// tableOf are routes, with the schemas that there are.
func tableOf(t *testing.T, specs ...string) (route.Table, *route.Schemas) {
	t.Helper()
	table, err := route.ParseTable(specs)
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := table.Schemas()
	if err != nil {
		t.Fatal(err)
	}
	return table, schemas
}

// The tasks of a service are sent as long as it has a route, by the sender that it has now. A route that changes keeps its
// sender; routes that are wrong change nothing.
func TestReplace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const sum, other = arithmeticv1connect.SumServiceName, "other.v1.Service"
		m := newFake(t, newFakeStore(), nil)
		stop := inBackground(t, m.shards.Run)
		synctest.Wait()
		part := m.shards.part(Shard{Service: sum})
		first := part.sending
		_, grown := m.shards.all()

		if err := m.Replace(tableOf(t, sum+"=http://127.0.0.1:2;ttl=1m", other+"=http://127.0.0.1:2;shards=2")); err != nil {
			t.Fatal(err)
		}
		sender := m.routes.of(sum)
		if part.sending != first || sender != first.sender || sender.route().TTL != time.Minute || sender.pool.Endpoints()[0].String() != "http://127.0.0.1:2" {
			t.Error("a changed route: want the sender that was there, at its new place")
		}
		select {
		case <-grown:
		default:
			t.Error("a new route: nobody is told that there are more shards")
		}
		if got := indexes(m, other); !slices.Equal(got, []int{0, 1}) || m.shards.part(Shard{Service: other}).sending == nil {
			t.Errorf("a new route: shards are %v", got)
		}

		if err := m.Replace(tableOf(t, other+"=http://127.0.0.1:2")); err != nil {
			t.Fatal(err)
		}
		if part.sending != nil || first.life.Err() == nil || m.routes.of(sum) != nil || m.shards.part(Shard{Service: sum}) != part {
			t.Error("a route that is gone: want its shard without anybody who sends")
		}
		table, schemas := tableOf(t, sum+"=http://127.0.0.1:2")
		if err := m.Replace(table, schemas); err != nil {
			t.Fatal(err)
		}
		if part.sending == nil || part.sending == first || part.sending.sender != m.routes.of(sum) {
			t.Error("a route that is back: want it sent again")
		}
		if got := m.shards.part(Shard{Service: other, Index: 1}); got == nil || got.sending != nil {
			t.Error("the shards of a route that is gone stay")
		}

		if err := m.Replace(route.Table{}, schemas); !errors.Is(err, route.ErrNoRoutes) || m.routes.of(sum) == nil {
			t.Errorf("no routes: %v, want an error and no change", err)
		}
		if err := m.Replace(tableOf(t, "mom.v1.HoldService=http://127.0.0.1:2")); err == nil || m.routes.of(sum) == nil {
			t.Errorf("a route to a service of our own: %v, want an error and no change", err)
		}
		stop()
		synctest.Wait()
	})
}
