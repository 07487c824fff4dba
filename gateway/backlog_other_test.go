//go:build !linux

package gateway_test

import "testing"

func fullBacklog(tb testing.TB) string {
	tb.Helper()
	tb.Skip("only Linux is known to drop a SYN when the backlog is full")
	return ""
}
