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
