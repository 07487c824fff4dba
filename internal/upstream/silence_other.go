//go:build !linux

package upstream

import "syscall"

// limitSilence is left to the system's own limits where Linux's is not known.
func limitSilence(string, string, syscall.RawConn) error { return nil }

// unacknowledged is known on Linux.
func unacknowledged(syscall.RawConn) bool { return false }
