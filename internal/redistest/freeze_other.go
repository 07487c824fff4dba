//go:build !linux

package redistest

import "os"

// awaitStopped waits for nothing: only Linux tells.
func awaitStopped(*os.Process) error { return nil }
