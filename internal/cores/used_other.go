//go:build !unix

package cores

import "time"

// used is not known here.
func used() (took time.Duration, known bool) { return 0, false }
