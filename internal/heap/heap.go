// Package heap decides when Go collects garbage.
package heap

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// goLeast is the size that Go's own rule takes a smaller heap for, in bytes.
const goLeast = 4 << 20

// GrowTo lets the heap grow to so many bytes before garbage is collected, and from there on to twice of what lives, as
// Go's own rule has it. By that rule alone a server that keeps little collects many times a second. A limit that is set with
// GOMEMLIMIT holds. It is called once, at the start of a process.
func GrowTo(size uint64) {
	adjust(size)
	// The next collection finds that nobody refers to this, and the next one is decided on anew.
	runtime.AddCleanup(new([2]*byte), GrowTo, size)
}

// adjust sets the percentage that leads from what lives now to the size.
func adjust(size uint64) {
	read := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(read)
	debug.SetGCPercent(percent(size, read[0].Value.Uint64(), read[1].Value.Uint64()+read[2].Value.Uint64()))
}

// percent is by how much of what it has scanned Go lets the heap grow: live, the heap that is in use, and other, which are stacks and
// variables.
func percent(size, live, other uint64) int {
	base := max(live+other, goLeast)
	return int(100 * max(size-min(live, size), base) / base)
}
