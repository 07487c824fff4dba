package cores

import (
	"context"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestSaver(t *testing.T) { // not parallel: each changes what the process has
	defer runtime.SetDefaultGOMAXPROCS()
	long := slices.Repeat([]float64{0.5}, calmIntervals)
	const computes = -1 // in place of a share
	for _, c := range []struct {
		what   string
		from   bool
		shares []float64
		one    bool
	}{
		{"one is enough", true, []float64{0, 0.7, 0.8, 0}, true},
		{"one is not enough", true, []float64{0, 0.9}, false},
		{"a moment of calm", false, long[1:], false},
		{"calm", false, long, true},
		{"calm with breaks", false, slices.Concat(long[1:], []float64{0.6}, long[1:]), false},
		{"busy again after calm", false, append(slices.Clone(long), 1.1), false},
		{"busy and calm again", true, slices.Concat([]float64{1}, long), true},
		{"something computes", true, []float64{0, computes}, false},
		{"it computes again before it is calm", true, slices.Concat([]float64{computes}, long[1:], []float64{computes}, long[1:]), false},
		{"it has computed", true, slices.Concat([]float64{computes}, long), true},
	} {
		s := saver{one: c.from}
		for _, share := range c.shares {
			if share == computes {
				s.useAll()
			} else {
				s.look(share)
			}
		}
		if s.one != c.one {
			t.Errorf("%s: one core: %t, want %t", c.what, s.one, c.one)
		}
	}
}

// Nobody saves, so there is nothing to be had.
func TestUseAllAlone(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	UseAll()
	if got := runtime.GOMAXPROCS(0); got != 1 {
		t.Errorf("%d cores, want the one that was set", got)
	}
}

// A process that is busy, or computes for long, gets all cores, gives them back when it is calm, and has them all in the end.
func TestSave(t *testing.T) {
	runtime.SetDefaultGOMAXPROCS() // go test -cpu may have set another number
	all := runtime.GOMAXPROCS(0)
	if all == 1 {
		t.Skip("there is only one core")
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	var computes atomic.Bool
	go func() {
		defer close(over)
		began, took := time.Now(), time.Duration(0)
		process.save(ctx, time.Millisecond, func() time.Duration {
			if computes.Load() {
				took = time.Since(began)
			}
			return took
		})
	}()
	reach := func(want int) {
		for runtime.GOMAXPROCS(0) != want { // or the test times out
			time.Sleep(time.Millisecond)
		}
	}
	reach(1)
	computes.Store(true)
	reach(all)
	computes.Store(false)
	reach(1)
	UseAll()
	reach(all)
	reach(1)
	cancel()
	<-over
	if got := runtime.GOMAXPROCS(0); got != all {
		t.Errorf("in the end: %d, want %d", got, all)
	}
}
