//go:build !linux

package redistest

import "os/exec"

// dieWithParent needs Linux; elsewhere a test binary that panics leaves its
// server behind.
func dieWithParent(*exec.Cmd) {}
