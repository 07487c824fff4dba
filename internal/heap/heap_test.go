package heap

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

func TestPercent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		live, other uint64
		want        int
	}{
		{0, 0, 1600}, // Go takes it for 4 MiB
		{8 << 20, 0, 700},
		{8 << 20, 48 << 20, 100},
		{32 << 20, 0, 100},
		{4 << 30, 0, 100},
	} {
		if got := percent(64<<20, c.live, c.other); got != c.want {
			t.Errorf("%d live, %d of stacks and variables: got %d, want %d", c.live, c.other, got, c.want)
		}
	}
}

// Each collection sets the next goal, small or large as the heap may be then.
func TestGrowTo(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	GrowTo(64 << 20)
	goal := func() uint64 {
		runtime.GC() // its cleanup comes a moment later
		read := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
		metrics.Read(read)
		return read[0].Value.Uint64()
	}
	settle := func(least, most uint64) {
		t.Helper()
		var got uint64
		for range 1000 {
			if got = goal(); got >= least && got <= most {
				return
			}
			runtime.Gosched()
		}
		t.Errorf("the next collection is at %d bytes, want %d to %d", got, least, most)
	}
	settle(60<<20, 72<<20)
	kept := make([]byte, 100<<20)
	settle(200<<20, 220<<20)
	runtime.KeepAlive(kept)
	settle(60<<20, 72<<20)
}
