package wire_test

import (
	"bytes"
	"testing"

	"holdline/internal/wire"
)

// Bytes stay what they are while room is made for more, whatever there was room for.
func TestRoom(t *testing.T) {
	t.Parallel()
	for _, start := range []int{0, 1, 100, wire.MinRoom, wire.MinRoom + 1, 1 << 20, 1<<20 + 1} {
		want := bytes.Repeat([]byte("ab"), start)[:start]
		got := bytes.Clone(want)
		for _, more := range []int{0, 1, wire.MinRoom - 1, wire.MinRoom, wire.MinRoom + 1, 1 << 20, 2 << 20} {
			if got = wire.Room(got, more); cap(got)-len(got) < more || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes and room for %d more: got %d with room for %d", start, more, len(got), cap(got)-len(got))
			}
		}
		wire.GiveBack(got)
	}
	wire.GiveBack(nil)
	wire.GiveBack(make([]byte, wire.MinRoom+1)) // no size of ours
	if b := wire.Room(nil, wire.MinRoom+1); len(b) != 0 || cap(b) < wire.MinRoom+1 {
		t.Errorf("got %d bytes with room for %d", len(b), cap(b))
	}
}
