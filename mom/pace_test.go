package mom

import (
	"testing"
	"time"
)

// busy is how long a service of so many workers takes for a call when so many are
// there.
func busy(work time.Duration, workers, calls int) time.Duration {
	return max(work, work*time.Duration(calls)/time.Duration(workers))
}

func TestPace(t *testing.T) {
	t.Parallel()
	const work = 5 * time.Millisecond
	for _, c := range []struct {
		name           string
		workers, live  int // the service's, and callers who call without a pause
		least, largest int // window, on average, once it has settled
	}{
		{"nobody else", 1000, 0, maxWindow, maxWindow},
		{"room for some", 32, 0, 20, 45},
		{"as many callers as workers", 4, 4, 1, 4},
		{"more callers than workers", 4, 8, 1, 7},
		{"many more callers than workers", 4, 40, 2, 35},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := pace{window: 1}
			const settling, settled = 2000, 4000
			sum := 0
			for i := range settling + settled {
				p.answered(busy(work, c.workers, c.live+p.window))
				if i >= settling {
					sum += p.window
				}
			}
			if got := sum / settled; got < c.least || got > c.largest {
				t.Errorf("window: got %d on average, want %d to %d", got, c.least, c.largest)
			}
		})
	}
}

// Calls that take a hundred times what others take are no sign of a busy service.
func TestPaceOfUnlikeCalls(t *testing.T) {
	t.Parallel()
	p := pace{window: 1}
	for i := range 10_000 {
		took := time.Millisecond
		if i%10 == 0 {
			took = 100 * time.Millisecond
		}
		p.answered(took)
	}
	if p.window < 8 {
		t.Errorf("window: got %d, want at least 8", p.window)
	}
}

// A service that fails some of its tasks is sent the fewer at a time the more it fails, and
// many again once it fails none.
func TestPaceOfFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		every          int // one of so many fails
		least, largest int // window, on average
	}{
		{1, 1, 1}, {2, 1, 2}, {5, 3, 9}, {100, 40, maxWindow},
	} {
		p := pace{window: 1}
		sum := 0
		const rounds = 10_000
		for i := range rounds {
			if i%c.every == 0 {
				p.failed()
			} else {
				p.answered(time.Millisecond)
			}
			sum += p.window
		}
		if got := sum / rounds; got < c.least || got > c.largest {
			t.Errorf("one of %d fails: got a window of %d on average, want %d to %d", c.every, got, c.least, c.largest)
		}
		for range maxWindow {
			p.answered(time.Millisecond)
		}
		if p.window != maxWindow {
			t.Errorf("after one of %d has failed: got a window of %d, want %d", c.every, p.window, maxWindow)
		}
	}
}

// A healthy service that answers nothing may have got many of the slow kind: it is soon sent
// others. One that failed before is not.
func TestPaceOfSilence(t *testing.T) {
	t.Parallel()
	p := pace{window: 1}
	for range 3 {
		p.stuck()
	}
	if got, want := p.room(counts{all: 21, again: 1, once: 2}), (Room{Tasks: maxWindow, Again: maxWindow / 2, Once: 2}); got != want {
		t.Errorf("room: got %+v, want %+v", got, want)
	}
	p.reset()
	p.failed()
	if p.stuck(); p.window != 1 {
		t.Errorf("window after a failure: got %d, want 1", p.window)
	}
	p.answered(time.Millisecond)
	if got, want := p.room(counts{}), (Room{Tasks: 2, Again: 1, Once: 2}); got != want {
		t.Errorf("room after an answer: got %+v, want %+v", got, want)
	}
	before := p.window
	if p.stuck(); p.window <= before {
		t.Errorf("window after an answer: got %d, want more than %d", p.window, before)
	}
}
