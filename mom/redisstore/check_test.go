package redisstore_test

import "testing"

// A server with correct settings passes, and so does a miniredis, which tells no settings.
func TestCheckPasses(t *testing.T) {
	onEach(t, func(t *testing.T, e *env) {
		e.ok(e.Check(e.ctx))
		e.add()
		e.ok(e.Check(e.ctx)) // now it has a name, too
		if got := e.Durability(); got.Snapshots || got.Unsaved != 0 {
			t.Errorf("durability: got %+v, want that each change is in a file", got)
		}
	})
}
