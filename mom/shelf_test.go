package mom

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"holdline/gen/arithmetic/v1/arithmeticv1connect"
)

// Our schemas are kept for as long as the MOM runs, again when the store may have lost them, and soon again by a store
// that has not taken them.
func TestShelfKeepsOurSchemas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, away := newFakeStore(), &fault{err: ErrUnavailable}
		store.fail = away.of("keep schema")
		m := newFake(t, store, nil)
		inBackground(t, m.shelf.Run)
		kept := func(what string, want int) {
			t.Helper()
			synctest.Wait()
			if got := store.times("keep schema"); got != want {
				t.Errorf("%s: the store was given schemas %d times, want %d", what, got, want)
			}
		}
		kept("at the start", 1)
		away.set(nil)
		time.Sleep(keepSchemaRetry)
		kept("after a failure", 1)
		time.Sleep(keepSchemaPause)
		kept("an hour later", 1)
		m.shelf.keepAgain()
		kept("by another store", 1)
		if name := m.shelf.name(arithmeticv1connect.SumServiceName); name == "" || store.schemas[name] == nil {
			t.Errorf("the schema is called %q, and the store has %d", name, len(store.schemas))
		}
	})
}

// A schema of another time is read once; one that there is not, or that is none, is not found.
func TestShelfFindsSchemas(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	m := newFake(t, store, nil)
	own := m.shelf.name(arithmeticv1connect.SumServiceName)
	if found, err := m.shelf.find(t.Context(), own); err != nil || found != m.shelf.ours.Of(arithmeticv1connect.SumServiceName) || store.times("schema") != 0 {
		t.Errorf("our own: got %v, %v, want ours, without asking the store", found, err)
	}
	store.schemas["other"], store.schemas["broken"] = m.shelf.snapshot(arithmeticv1connect.SumServiceName).raw, []byte("no schema")
	for range 2 {
		found, err := m.shelf.find(t.Context(), "other")
		if err != nil || found.Method(arithmeticv1connect.SumServiceSumProcedure) == nil {
			t.Fatalf("another: got %v, %v, want its methods", found, err)
		}
	}
	if n := store.times("schema"); n != 1 {
		t.Errorf("another: read %d times, want once", n)
	}
	for _, name := range []string{"broken", "none"} {
		if _, err := m.shelf.find(t.Context(), name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %v, want not found", name, err)
		}
	}
	store.fail = func(string) error { return ErrUnavailable }
	if _, err := m.shelf.find(t.Context(), "later"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("of a store that is away: got %v, want unavailable", err)
	}
}
