package h2

import "time"

// Goroutines that have run a call wait a moment for the next one, since their stacks have grown: a new one has to copy its stack
// once or twice in every call.

// waiting is where they wait.
var waiting = make(chan *call)

// patience is how long.
const patience = 50 * time.Millisecond

// start runs a call beside its caller.
func (c *call) start() {
	select {
	case waiting <- c:
	default:
		go work(c)
	}
}

func work(c *call) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		c.run()
		timer.Reset(patience)
		select {
		case c = <-waiting:
		case <-timer.C:
			return
		}
	}
}
