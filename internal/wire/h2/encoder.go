package h2

import (
	"hash/maphash"
	"slices"

	"golang.org/x/net/http2/hpack"
)

const (
	// maxTable is the largest dynamic table that we use, in bytes, however much the other side allows. Both sides begin
	// with it, so the first block has nothing to announce.
	maxTable = firstTableSize
	// pairOverhead is what RFC 7541, section 4.1, adds to the lengths of a name and its value.
	pairOverhead = 32
	// maxPairs is how many pairs fit into the largest table, since even an empty one has the overhead.
	maxPairs = maxTable / pairOverhead
	// buckets suffice for the pairs of most connections.
	buckets = 32
)

// What a block consists of (RFC 7541, sections 5.2 and 6): the first byte, and how many bits of that byte belong to a number.
const (
	indexed, indexedBits         = 0x80, 7 // a pair that a table has
	incremental, incrementalBits = 0x40, 6 // a literal that goes into the dynamic table
	sizeUpdate, sizeUpdateBits   = 0x20, 5 // the maximum size of the dynamic table
	literal, literalBits         = 0x00, 4 // a literal that goes into no table
	plainString, stringBits      = 0x00, 7 // a string without Huffman's code
)

// encoder writes blocks of headers as HPACK (RFC 7541). It is not safe for concurrent use, and the other side must get the blocks
// in the order in which they were begun.
//
// The dynamic table is for pairs that repeat from call to call, such as authorization, content-type, :path and user-agent.
// A pair goes into it when it comes for the second time in a short while. If every pair went in at once, those that differ
// with each call (traceparent, grpc-timeout, content-length) would push out those that repeat, and would cost a copy each.
//
// Strings are never compressed with Huffman's code. It would save about a quarter of each, but would cost both sides time for each byte,
// and strings that repeat are seldom sent.
type encoder struct {
	// The maximum size of the dynamic table, in bytes, and whether the next block has to announce it. If so, lowest is the smallest
	// that it has been since the last block.
	max, lowest int
	announce    bool

	// Pairs are numbered from 1, in the order in which they were added; pair n is in place (n-1) % maxPairs. The table has
	// the pairs after evicted, up to added, and size is the sum of their sizes.
	pairs          []pair
	added, evicted uint64
	size           int
	// newest has, for each bucket of hashes, the number of the pair that was added to it last; pair.older leads on from there.
	// Numbers only fall along such a chain. So it ends at the first pair that was evicted, and eviction need not repair it.
	newest [buckets]uint64

	// recent has the hashes of pairs that were sent as literals lately. Each set has those that came last, the newest first. With a single
	// place instead of a set, two pairs that share it and come in turn would never be seen to repeat.
	recent [16][8]uint32
	seed   maphash.Seed // random, so nobody can choose headers that all fall into the same bucket
}

type pair struct {
	name, value string
	older       uint64 // the number of the next older pair in the same bucket
}

func newEncoder() *encoder { return &encoder{max: maxTable, seed: maphash.MakeSeed()} }

// limit takes the other side's SETTINGS_HEADER_TABLE_SIZE. It must not be called within a block.
func (e *encoder) limit(size uint32) {
	e.max = int(min(size, maxTable))
	// A limit that changes nothing for us is announced, too: it may be lower than the limit before, and then RFC 9113,
	// section 4.3.1, has the other side insist on an update.
	if !e.announce || e.max < e.lowest {
		e.lowest = e.max
	}
	e.announce = true
	e.evict(e.max)
}

// begin begins a block and returns dst with what comes before its fields.
func (e *encoder) begin(dst []byte) []byte {
	if !e.announce {
		return dst
	}
	e.announce = false
	// RFC 7541, section 4.2: where the limit was lower in between, the table must have been as small as that. We go down to 0,
	// since x/net's decoder takes a second update only while its table is empty (https://go.dev/issue/29187).
	if e.lowest < e.max {
		e.evict(0)
		dst = appendNumber(dst, sizeUpdate, sizeUpdateBits, 0)
	}
	return appendNumber(dst, sizeUpdate, sizeUpdateBits, uint64(e.max))
}

// field returns dst with one more field of the block that has begun. The name is in lower case. Neither string is kept.
func (e *encoder) field(dst []byte, name, value string) []byte {
	// A pair that takes more than half of the table would push out too many others. It is not even hashed, as it may be long.
	mayIndex := pairSize(name, value) <= e.max/2
	var hash uint32
	if mayIndex {
		hash = e.hash(name, value)
		if n := e.find(hash, name, value); n != 0 {
			return appendNumber(dst, indexed, indexedBits, uint64(len(staticTable))+e.added-n)
		}
	}
	static, whole := findStatic(name, value)
	switch {
	case whole:
		return appendNumber(dst, indexed, indexedBits, static)
	case mayIndex && e.repeats(hash):
		e.add(hash, name, value)
		dst = appendNumber(dst, incremental, incrementalBits, static)
	default:
		dst = appendNumber(dst, literal, literalBits, static)
	}
	if static == 0 {
		dst = appendString(dst, name)
	}
	return appendString(dst, value)
}

// find returns the number of a pair in the dynamic table; 0: it has none.
func (e *encoder) find(hash uint32, name, value string) uint64 {
	n := e.newest[hash%buckets]
	for n > e.evicted {
		p := e.pair(n)
		if p.name == name && p.value == value {
			return n
		}
		n = p.older
	}
	return 0
}

// repeats tells whether a pair of this hash was sent as a literal lately, and notes that it is sent now. If two pairs have
// the same hash, the second one is only added early.
func (e *encoder) repeats(hash uint32) bool {
	set := e.recent[hash%uint32(len(e.recent))][:]
	if slices.Contains(set, hash) {
		return true
	}
	copy(set[1:], set)
	set[0] = hash
	return false
}

// add adds a pair, which must fit, to the dynamic table.
func (e *encoder) add(hash uint32, name, value string) {
	size := pairSize(name, value)
	e.evict(e.max - size)
	e.size += size
	e.added++
	// A copy, because the strings may be parts of a large buffer, which they would keep alive.
	both, bucket := name+value, hash%buckets
	p := pair{both[:len(name)], both[len(name):], e.newest[bucket]}
	e.newest[bucket] = e.added
	if len(e.pairs) < maxPairs {
		e.pairs = append(e.pairs, p) // most connections repeat only a few
	} else {
		*e.pair(e.added) = p
	}
}

// evict evicts the oldest pairs until the others have no more than this size.
func (e *encoder) evict(size int) {
	for e.size > size {
		e.evicted++
		p := e.pair(e.evicted)
		e.size -= pairSize(p.name, p.value)
		*p = pair{}
	}
}

func (e *encoder) pair(n uint64) *pair { return &e.pairs[(n-1)%maxPairs] }

func pairSize(name, value string) int { return len(name) + len(value) + pairOverhead }

func (e *encoder) hash(name, value string) uint32 {
	// Two different halves: else all names that equal their values would have the same hash.
	return uint32(maphash.String(e.seed, name)>>32) ^ uint32(maphash.String(e.seed, value))
}

// staticTable is the table of RFC 7541, appendix A, whose first field has number 1, and staticNames is where each name is first.
// x/net does not export its table, but its decoder knows each field by number.
var staticTable, staticNames = func() (table [62]hpack.HeaderField, names map[string]uint64) {
	names = map[string]uint64{}
	decoder := hpack.NewDecoder(0, nil)
	for i := len(table) - 1; i > 0; i-- { // from the last, so that the first field of a name counts
		fields, err := decoder.DecodeFull([]byte{indexed | byte(i)})
		if err != nil {
			panic(err)
		}
		table[i] = fields[0]
		names[table[i].Name] = uint64(i)
	}
	return table, names
}()

// findStatic returns the number of a field of the static table that has the name; 0: it has none. whole: it has the value, too.
func findStatic(name, value string) (number uint64, whole bool) {
	first := staticNames[name]
	// Fields of the same name follow each other.
	for i := first; i > 0 && i < uint64(len(staticTable)) && staticTable[i].Name == name; i++ {
		if staticTable[i].Value == value {
			return i, true
		}
	}
	return first, false
}

// appendNumber appends a number as RFC 7541, section 5.1, has it: in the low bits of the first byte, and in more bytes if
// these bits do not suffice.
func appendNumber(dst []byte, first byte, bits uint, n uint64) []byte {
	most := uint64(1)<<bits - 1
	if n < most {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

func appendString(dst []byte, s string) []byte {
	return append(appendNumber(dst, plainString, stringBits, uint64(len(s))), s...)
}
