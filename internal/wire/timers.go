package wire

import (
	"sync"
	"time"
)

// timers are those of waits that have ended.
var timers = sync.Pool{New: func() any { return time.NewTimer(time.Hour) }}

// GetTimer returns a timer for one wait, which is over with PutTimer. It is not for what is tested in bubbles of testing/synctest: no timer leaves one.
func GetTimer(d time.Duration) *time.Timer {
	timer, _ := timers.Get().(*time.Timer)
	timer.Reset(d)
	return timer
}

// PutTimer ends a timer; there may be none.
func PutTimer(timer *time.Timer) {
	if timer != nil {
		timer.Stop()
		timers.Put(timer)
	}
}
