package wire

import "time"

// Job is what runs beside the goroutine that starts it.
type Job interface{ Run() }

// JobFunc is a Job that is a function.
type JobFunc func()

// Run implements Job.
func (run JobFunc) Run() { run() }

// Workers are goroutines that have done a job, such as a call, and wait a moment for the next one, since their stacks have grown: a new one has
// to copy its stack once or twice in every call. They wait on the channel; when it is closed, they end.
type Workers chan Job

// patience is how long.
const patience = 50 * time.Millisecond

// Start runs a job, and does not wait for its end.
func (w Workers) Start(j Job) {
	select {
	case w <- j:
	default:
		go w.work(j)
	}
}

func (w Workers) work(j Job) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for more := true; more; {
		j.Run()
		timer.Reset(patience)
		select {
		case j, more = <-w:
		case <-timer.C:
			return
		}
	}
}
