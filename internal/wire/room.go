package wire

import (
	"math/bits"
	"slices"
	"sync"
	"unsafe"
)

// Bytes that pass through are held in arrays that all connections share: larger ones than most need would be garbage after each call.
// There are sizes from MinRoom on, each twice as large as the one before.
const (
	MinRoom = 4 << 10
	maxRoom = 1 << 20
)

var rooms [9]sync.Pool // of pointers to first bytes

// sizeOf is the number of the smallest size that holds n bytes.
func sizeOf(n int) int { return bits.Len(uint(n-1)) - bits.Len(uint(MinRoom-1)) }

// Room returns b with room for n bytes more. If that needs another array, the one of b is given back. What is smaller or larger than our
// sizes is nobody else's.
func Room(b []byte, n int) []byte {
	need := len(b) + n
	if need <= cap(b) || need < MinRoom || need > maxRoom {
		return slices.Grow(b, n)
	}
	var larger []byte
	if first, ok := rooms[sizeOf(need)].Get().(*byte); ok {
		larger = unsafe.Slice(first, MinRoom<<sizeOf(need))[:len(b)]
	} else {
		larger = make([]byte, len(b), MinRoom<<sizeOf(need))
	}
	copy(larger, b)
	GiveBack(b)
	return larger
}

// GiveBack gives the array of b back, which nobody may use any more. One of another size is left to the garbage collector.
func GiveBack(b []byte) {
	if size := cap(b); size >= MinRoom && size <= maxRoom && size == MinRoom<<sizeOf(size) {
		Poison(b[:size])
		rooms[sizeOf(size)].Put(unsafe.SliceData(b))
	}
}
