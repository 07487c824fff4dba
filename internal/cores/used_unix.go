//go:build unix

package cores

import (
	"syscall"
	"time"
)

// used is the processor time that the process has used.
func used() (took time.Duration, known bool) {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0, false
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), true
}
