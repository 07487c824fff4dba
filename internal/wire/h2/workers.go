package h2

import "time"

// Goroutines that have run a call, or have written, wait a moment for the next job, since their stacks have grown: a new one has to copy its
// stack once or twice in every call. And a connection without calls needs none to write.

// job is what runs beside a connection's reader.
type job interface{ run() }

// waiting is where they wait.
var waiting = make(chan job)

// patience is how long.
const patience = 50 * time.Millisecond

// start runs a job.
func start(j job) {
	select {
	case waiting <- j:
	default:
		go work(j)
	}
}

func work(j job) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		j.run()
		timer.Reset(patience)
		select {
		case j = <-waiting:
		case <-timer.C:
			return
		}
	}
}
