package h2

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/net/http2/hpack"
)

// usualFields are those of a gRPC call. The last one differs with each call.
func usualFields(call int) []hpack.HeaderField {
	return []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "calculator.example:8080"},
		{Name: ":path", Value: "/example.calculator.v1.CalculatorService/Add"},
		{Name: "content-type", Value: "application/grpc+proto"},
		{Name: "te", Value: "trailers"},
		{Name: "user-agent", Value: "grpc-go/1.76.0"},
		{Name: "grpc-timeout", Value: "30S"},
		{Name: "authorization", Value: "Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJleGFtcGxlIn0.c2lnbmF0dXJl"},
		{Name: "traceparent", Value: fmt.Sprintf("00-%032x-00f067aa0ba902b7-01", call)},
	}
}

func encode(e *encoder, dst []byte, fields []hpack.HeaderField) []byte {
	dst = e.begin(dst)
	for _, f := range fields {
		dst = e.field(dst, f.Name, f.Value)
	}
	return dst
}

// encoderPeer is the other side of an encoder.
type encoderPeer struct {
	testing.TB
	encoder *encoder
	decoder *hpack.Decoder
	limits  []uint32 // since the last block
}

func newEncoderPeer(tb testing.TB) *encoderPeer {
	return &encoderPeer{TB: tb, encoder: newEncoder(), decoder: hpack.NewDecoder(firstTableSize, nil)}
}

func (p *encoderPeer) limit(size uint32) {
	p.encoder.limit(size)
	p.decoder.SetAllowedMaxDynamicTableSize(size)
	p.limits = append(p.limits, min(size, maxTable))
}

// updates returns what a block has to begin with, as x/net's encoder writes it.
func (p *encoderPeer) updates() []byte {
	if len(p.limits) == 0 {
		return nil
	}
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	last := p.limits[len(p.limits)-1]
	if slices.Min(p.limits) < last {
		e.SetMaxDynamicTableSize(0)
	}
	e.SetMaxDynamicTableSize(last)
	p.limits = nil
	_ = e.WriteField(hpack.HeaderField{Name: ":method", Value: "GET"}) // of one byte
	return block.Bytes()[:block.Len()-1]
}

// block returns a block of these fields. It has the updates that are due, and is decoded to the same fields.
func (p *encoderPeer) block(fields ...hpack.HeaderField) []byte {
	p.Helper()
	block, updates := encode(p.encoder, nil, fields), p.updates()
	if !bytes.HasPrefix(block, updates) {
		p.Fatalf("a block begins with % x, want % x", block[:min(len(block), 10)], updates)
	}
	if rest := block[len(updates):]; len(rest) > 0 && rest[0]&0xe0 == sizeUpdate {
		p.Fatalf("a block begins with % x, want no update after % x", block[:min(len(block), 10)], updates)
	}
	got, err := p.decoder.DecodeFull(block)
	if err != nil {
		p.Fatalf("a block of %d fields is not decoded: %v", len(fields), err)
	}
	if !slices.Equal(got, fields) {
		p.Fatalf("decoded: got %q, want %q", got, fields)
	}
	return block
}

// play encodes the blocks that a script of bytes asks for.
func play(tb testing.TB, script []byte) {
	names := []string{":method", ":path", ":status", "accept-encoding", "authorization", "www-authenticate", "traceparent", "x-any", "a", "b", "c", ""}
	values := []string{"", "POST", "/", "200", "gzip, deflate", "authorization"}
	limits := []uint32{0, 31, 32, 63, 64, 100, 1000, 4095, 4096, 4097, 1 << 16, math.MaxUint32}
	next := func() int {
		if len(script) == 0 {
			return 0
		}
		b := script[0]
		script = script[1:]
		return int(b)
	}
	p := newEncoderPeer(tb)
	var fields []hpack.HeaderField
	for n := 0; len(script) > 0; n++ {
		switch kind := next(); {
		case kind < 2:
			p.limit(limits[next()%len(limits)])
			continue
		case kind < 25:
			p.block(fields...)
			fields = fields[:0]
			continue
		}
		name := names[next()%len(names)]
		var value string
		switch kind, choice := next(), next(); {
		case kind < 120: // short ones that repeat, so that the table has many
			value = string(rune('a' + choice%64))
		case kind < 170:
			value = values[choice%len(values)]
		case kind < 220:
			value = fmt.Sprintf("unique %d", n)
		case kind < 235: // about as long as the longest that is indexed
			value = strings.Repeat("v", max(0, maxTable/2-pairOverhead-len(name)+choice%3-1))
		case kind < 250: // a few of which fill the table
			value = strings.Repeat("v", 2*choice)
		case kind < 252:
			value = strings.Repeat("long ", 2048+choice%2)
		default:
			value = string(script[:min(choice, len(script))])
		}
		fields = append(fields, hpack.HeaderField{Name: name, Value: value})
	}
	p.block(fields...)
}

func TestEncoderIsDecoded(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{1})
	for range 20 {
		script := make([]byte, 50_000)
		_, _ = random.Read(script)
		play(t, script)
	}
}

func FuzzEncoder(f *testing.F) {
	script := make([]byte, 256)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(script)
	f.Add(script)
	f.Add([]byte{0, 0, 99, 8, 0, 1, 99, 8, 0, 1, 10, 0, 8, 99, 8, 0, 1, 10, 99, 8, 0, 1})
	f.Fuzz(func(t *testing.T, script []byte) { play(t, script) })
}

// All fields of the static table are found there, and fields that have only a name of it refer to the name.
func TestEncoderStaticTable(t *testing.T) {
	t.Parallel()
	p := newEncoderPeer(t)
	for i, f := range staticTable[1:] {
		if got, want := p.block(f), []byte{indexed | byte(i+1)}; !bytes.Equal(got, want) {
			t.Errorf("%q: got % x, want % x", f, got, want)
		}
		f.Value = "other"
		if got, most := p.block(f), 3+len(f.Value); len(got) > most {
			t.Errorf("%q: got %d bytes, want no more than %d", f, len(got), most)
		}
	}
	for i, want := range map[int]hpack.HeaderField{
		1: {Name: ":authority"}, 8: {Name: ":status", Value: "200"}, 61: {Name: "www-authenticate"},
	} {
		if staticTable[i] != want {
			t.Errorf("field %d: got %q, want %q", i, staticTable[i], want)
		}
	}
}

func TestEncoderAnnouncesSizeOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		limits []uint32
		want   []byte
	}{
		{"none", nil, nil},
		{"unchanged", []uint32{4096}, []byte{0x3f, 0xe1, 0x1f}},
		{"above our own", []uint32{1 << 16}, []byte{0x3f, 0xe1, 0x1f}},
		{"zero", []uint32{0}, []byte{0x20}},
		{"lower in between", []uint32{20, 10, 30, 25}, []byte{0x20, 0x39}},
		{"lower at last", []uint32{20, 10}, []byte{0x2a}},
		{"zero, then above our own", []uint32{0, math.MaxUint32}, []byte{0x20, 0x3f, 0xe1, 0x1f}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newEncoderPeer(t)
			for _, limit := range test.limits {
				p.limit(limit)
			}
			if got := p.block(); !bytes.Equal(got, test.want) {
				t.Errorf("first block: got % x, want % x", got, test.want)
			}
			if got := p.block(); len(got) > 0 {
				t.Errorf("second block: got % x, want nothing", got)
			}
		})
	}
}

func TestEncoderIndexesWhatRepeats(t *testing.T) {
	t.Parallel()
	p := newEncoderPeer(t)
	for call := range 1000 {
		block := p.block(usualFields(call)...)
		if most := 9 + len("0 traceparent 0") + 55; call > 1 && len(block) > most {
			t.Fatalf("call %d: got %d bytes, want no more than %d", call, len(block), most)
		}
	}
	if got := p.encoder.added; got != 7 {
		t.Errorf("got %d pairs in the table, want those 7 that repeat and are not in the static table", got)
	}
}

// Pairs that come in turn are all indexed, wherever their hashes fall: of any two of them some encoder has both in the same set.
func TestEncoderIndexesAllThatRepeat(t *testing.T) {
	t.Parallel()
	for range 100 {
		p := newEncoderPeer(t)
		for range 3 {
			p.block(usualFields(0)...)
		}
		if got := len(p.block(usualFields(0)...)); got != 10 {
			t.Fatalf("got %d bytes, want one for each of 10 fields", got)
		}
	}
}

func TestEncoderWithoutTable(t *testing.T) {
	t.Parallel()
	p := newEncoderPeer(t)
	for range 3 {
		p.block(usualFields(0)...)
	}
	p.limit(0)
	for range 3 {
		p.block(usualFields(0)...)
	}
	if got := p.encoder.size; got != 0 {
		t.Errorf("got a table of %d bytes, want none", got)
	}
}

// The table is filled to its last byte, and not beyond.
func TestEncoderEvictsExactly(t *testing.T) {
	t.Parallel()
	p := newEncoderPeer(t)
	field := func(n, size int) hpack.HeaderField {
		return hpack.HeaderField{Name: fmt.Sprint("x", n), Value: strings.Repeat("v", size-pairOverhead-2)}
	}
	var added []hpack.HeaderField
	for _, step := range []struct{ size, limit, evicted int }{
		{size: 1000, evicted: 0},
		{size: 2000, evicted: 0},
		{size: 1096, evicted: 0}, // full
		{size: 34, evicted: 1},
		{size: 966, evicted: 1}, // full again
		{size: 2001, evicted: 3},
		{limit: 3001, evicted: 3},
		{limit: 3000, evicted: 4},
		{limit: 2966, evicted: 5},
	} {
		if step.size > 0 {
			f := field(len(added), step.size)
			p.block(f, f)
			added = append(added, f)
		} else {
			p.limit(uint32(step.limit))
			p.block()
		}
		for n, f := range added {
			if got, want := p.encoder.find(p.encoder.hash(f.Name, f.Value), f.Name, f.Value) != 0, n >= step.evicted; got != want {
				t.Errorf("after %+v: pair %d in the table: got %t, want %t", step, n, got, want)
			}
		}
	}
}

func TestEncoderIndexesNoLargePair(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		size int
		want uint64
	}{{maxTable / 2, 1}, {maxTable/2 + 1, 0}} {
		p := newEncoderPeer(t)
		large := hpack.HeaderField{Name: "x", Value: strings.Repeat("v", test.size-pairOverhead-1)}
		p.block(large, large, large)
		if got := p.encoder.added; got != test.want {
			t.Errorf("a pair of %d bytes: got %d in the table, want %d", test.size, got, test.want)
		}
	}
}

// A pair is never taken for another one of the same hash: that would hand one caller's headers to another.
func TestEncoderSameHash(t *testing.T) {
	t.Parallel()
	const hash = 7
	e := newEncoder()
	e.add(hash, "authorization", "one")
	e.add(hash, "authorization", "two")
	e.add(hash+buckets, "authorization", "three") // the same bucket
	for i, value := range []string{"one", "two", "three"} {
		if got, want := e.find(hash, "authorization", value), uint64(i+1); got != want {
			t.Errorf("%s: got pair %d, want %d", value, got, want)
		}
	}
	for _, f := range []hpack.HeaderField{{Name: "authorization", Value: "four"}, {Name: "x", Value: "one"}, {Name: "authorizationo", Value: "ne"}} {
		if got := e.find(hash, f.Name, f.Value); got != 0 {
			t.Errorf("%q: got pair %d, want none", f, got)
		}
	}
}

func TestEncoderKeepsCopies(t *testing.T) {
	t.Parallel()
	e := newEncoder()
	f := hpack.HeaderField{Name: "x-name", Value: "value"}
	encode(e, nil, []hpack.HeaderField{f, f})
	if kept := e.pair(1); unsafe.StringData(kept.name) == unsafe.StringData(f.Name) || unsafe.StringData(kept.value) == unsafe.StringData(f.Value) {
		t.Error("the table has the caller's strings, want copies")
	}
}

func TestEncoderAllocatesNothing(t *testing.T) { // not in parallel: others would be counted
	e := newEncoder()
	var dst []byte
	call := 0
	calls := make([][]hpack.HeaderField, 200)
	for i := range calls {
		calls[i] = usualFields(i)
	}
	if got := testing.AllocsPerRun(100, func() {
		// Two blocks, as the first run is not counted, and the second block of all adds to the table.
		for range 2 {
			dst = encode(e, dst[:0], calls[call%len(calls)])
			call++
		}
	}); got != 0 {
		t.Errorf("got %v allocations for two blocks, want none", got)
	}
}

func BenchmarkEncoder(b *testing.B) {
	for _, kind := range []struct {
		name  string
		calls int
	}{{"repeating", 1}, {"one of ten differs", 1024}} {
		calls := make([][]hpack.HeaderField, kind.calls)
		for i := range calls {
			calls[i] = usualFields(i)
		}
		b.Run(kind.name+"/own", func(b *testing.B) {
			b.ReportAllocs()
			e := newEncoder()
			var dst []byte
			for i := 0; b.Loop(); i++ {
				dst = encode(e, dst[:0], calls[i%len(calls)])
			}
		})
		b.Run(kind.name+"/xnet", func(b *testing.B) {
			b.ReportAllocs()
			var dst bytes.Buffer
			e := hpack.NewEncoder(&dst)
			for i := 0; b.Loop(); i++ {
				dst.Reset()
				for _, f := range calls[i%len(calls)] {
					_ = e.WriteField(f)
				}
			}
		})
	}
}
